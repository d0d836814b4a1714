"""What is masked and what is not; of thirty secrets none comes through. Spec: spec/provenance.md 5."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker.provenance.masking import (
    MASK,
    Masker,
    find_secret_values,
    strip_credentials,
)
from tracker.provenance.telling import is_secret_file, is_secret_name

PLAIN = Masker()

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLE1",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEBYaDKx9mlpQ2",
    "GITHUB_TOKEN": "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "GH_PAT_AUTH": "github_pat_11ABCDEFG0aBcDeFgHiJkL_mNoPqRsTuVwXyZ",
    "GITLAB_TOKEN": "glpat-x9Zk2LmQw7Rt4Yp1Vb8N",
    "HF_TOKEN": "hf_QwErTyUiOpAsDfGhJkLzXcVbNm",
    "OPENAI_API_KEY": "sk-proj-4f9Qk2Lm8Zx1Cv7Bn3Ma",
    "ANTHROPIC_API_KEY": "sk-ant-api03-Zx81Qp-44kLm",
    "WANDB_API_KEY": "0f1e2d3c4b5a69788796a5b4c3d2e1f001234567",
    "MLFLOW_TRACKING_PASSWORD": "hunter2hunter2",
    "SLACK_BOT_TOKEN": "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrz",
    "GOOGLE_API_KEY": "AIzaSyD4ExampleExampleExampleExample123",
    "STRIPE_KEY": "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "NPM_TOKEN": "npm_9aB8cD7eF6gH5iJ4kL3mN2oP1qR0sT9uV8wX",
    "DB_PASSWORD": "correct-horse-battery",
    "PGPASSWORD": "Tr0ub4dor&3xyz",
    "mysql_pwd": "opensesame99",
    "DJANGO_SECRET": "django-insecure-9x!k2@m4#p6",
    "SESSION_COOKIE": "sessionid=8f14e45fceea167a5a36dedd4bea2543",
    "AUTH_HEADER": "Bearer abcdefghijklmnop",
    "JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "PRIVATE_KEY": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "AZURE_CLIENT_SECRET": "8Q~8Q.xYzAbCdEfGhIjKlMnOpQrStUv",
    "COMET_API_KEY": "kQ3vT8yB1nM6xC4z",
    "NEPTUNE_API_TOKEN": "eyJhcGlfYWRkcmVzcyI6Imh0dHBzIn0=",
    "TELEGRAM_TOKEN": "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw",
    "VAULT_CREDENTIALS": "s.9fJ3kLm2PqRsTuVw",
    "MY_PASSPHRASE": "many words make one",
    "SSH_PRIVATE": "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE",
}
"""Thirty secrets under the names that programs give them."""

URLS = {
    "https://ada:Pa55-in-url@git.example.org/lab.git": "Pa55-in-url",
    "postgresql://lab:Pg-pw-77@db/lab": "Pg-pw-77",
    "https://api.example.org/v1?access_token=Qt0kenInQuery9&page=2": "Qt0kenInQuery9",
    "s3://bucket/x?X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6": "5d672d79c15b13162d9279b0855cfba6",
}

CHILD = """
import sys
from tracker import Project

with Project(sys.argv[1]).session("train", params={"seed": 1}):
    pass
"""


def write_secrets(repository) -> None:
    """A remote, a diff and untracked files that hold all of them."""
    repository.commit(child_py=CHILD.encode(), settings_py=b"old = 1\n")
    repository.git("config", "remote.origin.url", next(iter(URLS)))
    as_shell = "".join(f"export {name}={value}\n" for name, value in SECRETS.items())
    as_python = "".join(f"{name.lower()} = {value!r}\n" for name, value in SECRETS.items())
    as_python += "".join(f"url{i} = {url!r}\n" for i, url in enumerate(URLS))
    as_json = json.dumps({**SECRETS, "urls": [*URLS]}, indent=1)
    repository.write("settings.py", as_python.encode())
    repository.write("job.sh", as_shell.encode())
    repository.write("config.json", as_json.encode())
    repository.write(".env", as_shell.encode())
    repository.write("key.pem", b"-----BEGIN PRIVATE KEY-----\n")


def words_with_secrets() -> list[str]:
    words = [f"--{name.lower().replace('_', '-')}={value}" for name, value in SECRETS.items()]
    words += [word for name, value in SECRETS.items() for word in (f"--{name}", value)]
    return (
        words + [f"{name.lower()}={value}" for name, value in SECRETS.items()] + [*URLS, json.dumps(SECRETS)]
    )


def variables_with_secrets() -> dict[str, str]:
    return SECRETS | {
        "TRACKER_VARIABLES": ",".join([*SECRETS, "REGISTRY", "DB_*"]),
        "DB_URL": [*URLS][1],
        "REGISTRY": next(iter(URLS)),
        "XLA_FLAGS": "--xla_dump_to=/tmp/x",
        "NCCL_SECRET_X": "nccl-9x8y7z",
    }


def test_none_of_thirty_secrets_reaches_a_store(repository, tmp_path, reference):
    assert len(SECRETS) == 30
    write_secrets(repository)
    root = tmp_path / "root"
    variables = repository.environment | variables_with_secrets() | {"TRACKER_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "child.py", str(root), *words_with_secrets()]
    subprocess.run(command, cwd=repository.top, env=variables, check=True)
    (run,) = reference.read_store(root)["runs"]
    facts = run["attempts"][0]["facts"]
    names = [path for folder in (root, tmp_path / "cache") for path in folder.rglob("*") if path.is_file()]
    everything = b"\n".join(str(path).encode() + path.read_bytes() for path in names)

    assert {"code", "environment", "argv", "variables", "seeds"} <= set(facts)
    for kept in (
        b"diff --git a/settings.py",
        b"XLA_FLAGS",
        b"captured",
        b"job.sh",
        b"export DB_PASSWORD=***",
    ):
        assert kept in everything
    assert b"-----BEGIN" not in everything
    for secret in (*SECRETS.values(), *URLS.values(), "nccl-9x8y7z"):
        for form in (secret, json.dumps(secret)[1:-1], secret[:12] if len(secret) > 20 else secret):
            assert form.encode() not in everything


@pytest.mark.parametrize(
    "form",
    [
        "export {name}={value}",
        "+export {name}='{value}'",
        "{lower} = {quoted}",
        "  {lower}={quoted},",
        '-"{name}": {quoted},',
        'os.environ["{name}"] = {quoted}',
        'os.environ.setdefault("{name}", {quoted})',
    ],
)
def test_secrets_that_only_source_knows_are_masked(form):
    """Thirty programs' own secrets, in a diff or a file, with none of them set in the environment."""
    lines = [
        form.format(name=name, lower=name.lower(), value=value, quoted=json.dumps(value))
        for name, value in SECRETS.items()
    ]
    text = PLAIN.content("\n".join(lines + [repr(url) for url in URLS]).encode()).data.decode()

    assert text.count(MASK) >= len(SECRETS) + len(URLS)
    assert [secret for secret in (*SECRETS.values(), *URLS.values()) if secret in text] == []


def test_a_secret_that_the_environment_knows_is_masked_in_any_text():
    masker = Masker(
        find_secret_values({"LAB_TOKEN": "plainwordsonly", "PASSWD": "short1", "URL": "a://u:in-url@h"})
    )

    assert masker.arguments(["--run=xplainwordsonlyx", "short1", "a short1.", "ashort1", "in-url"]) == [
        "--run=x***x",
        "***",
        "a ***.",
        "ashort1",
        "***",
    ]
    assert masker.content(b"f(plainwordsonly)\n").data == b"f(***)\n"


def test_what_is_too_short_or_a_folder_is_no_value_to_find():
    assert (
        find_secret_values({"TOKEN": "abc", "KEY": "1234567", "AUTH": "true", "PWD": "/home/ada", "X": "y"})
        == []
    )


@pytest.mark.parametrize(
    "name",
    [
        "KEY",
        "apiKey",
        "x-api-key",
        "Passwd",
        "passphrase",
        "OAUTH",
        "PGPASSWORD",
        "author_token",
        "sshPrivate",
    ],
)
def test_a_telling_name_is_secret(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["TOKENIZERS_PARALLELISM", "keyword", "author", "lr", "kpt.keypoints", "PATH", "Tokenizer", ""]
)
def test_a_name_that_only_sounds_like_one_is_none(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("argv", "want"),
    [
        ("--api-key X --lr 0.1", "--api-key *** --lr 0.1"),
        ("--password=X", "--password=***"),
        ("--token X", "--token ***"),
        ("--use-auth --lr 1", "--use-auth --lr 1"),
        ("--max-tokens 512 --num_key_value_heads=8", "--max-tokens 512 --num_key_value_heads=8"),
        ("--token 512", "--token ***"),
        ("--use-auth-token true", "--use-auth-token true"),
        ("--tokenizer bert-base", "--tokenizer bert-base"),
        ("+db.password=X db.host=h", "+db.password=*** db.host=h"),
        ("-e WANDB_API_KEY=X", "-e WANDB_API_KEY=***"),
        ("sk-1234567890abcdefg", "***"),
        ("--hub=ghp_abcdefghij0123456789", "--hub=***"),
        ("https://u:p@h/x?token=t&a=1", "https://***@h/x?token=***&a=1"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("ssh://git@host/x git@host:x", "ssh://git@host/x git@host:x"),
        ("--config=key.yaml", "--config=key.yaml"),
        ('{"api_key":"abc","lr":0.1}', '{"api_key":"***","lr":0.1}'),
    ],
)
def test_words_of_a_command_line(argv, want):
    assert PLAIN.arguments(argv.split(" ")) == want.split(" ")


def test_a_header_is_one_word():
    assert PLAIN.arguments(["-H", "Authorization: Bearer abc"]) == ["-H", "Authorization: ***"]


SOURCE_KEPT = """\
max(scores, key="accuracy")
sorted(x, key=lambda item: item.private)
token = tokens[i]
pad_token = "[PAD]"
tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
SECRET_KEY = os.environ["SECRET_KEY"]
API_KEY=os.environ["API_KEY"]
def login(password: str = None, auth: bool = True) -> None:
url = f"postgres://{user}:{password}@{host}/db"
curl -H "Authorization: Bearer $TOKEN"
num_key_value_heads = 8
for key, value in d.items(): print(key, value)
if data.startswith("-----BEGIN PRIVATE KEY-----"):
    return key
sk-learn-contrib-estimators
# a basic understanding of bearer bonds
credential_provider: CredentialProviderFunction | None = None
fields = ["password", "email", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"]
see https://example.org/author/x?page=2
"""


def test_source_that_speaks_of_keys_is_left_as_it_is():
    assert PLAIN.content(SOURCE_KEPT.encode()) == (SOURCE_KEPT.encode(), 0)


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ('password = "hunter2"', 'password = "***"'),
        ("+    'db_passwd': 'x y z',", "+    'db_passwd': '***',"),
        ('"api_key": "a1b2c3d4e5"', '"api_key": "***"'),
        ("AWS_SECRET_ACCESS_KEY=wJalr/x", "AWS_SECRET_ACCESS_KEY=***"),
        ("export TOKEN=abc", "export TOKEN=***"),
        ("password: hunter22", "password: ***"),
        ('-key = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"', '-key = "***"'),
        ('x = "postgres://me:pw@localhost/db"', 'x = "postgres://***@localhost/db"'),
        ("git+https://x-token:abc@host/lab.git", "git+https://***@host/lab.git"),
        ('"Authorization": "Basic dXNlcjpwYXNz"', '"Authorization": "Basic ***"'),
        ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/***"),
        ("+AKIAIOSFODNN7EXAMPLE", "+***"),
        ("a=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_-1", "a=***"),
    ],
)
def test_secrets_in_source_are_masked_and_counted(line, want):
    assert PLAIN.content(f"a\n{line}\nb\n".encode()) == (f"a\n{want}\nb\n".encode(), 1)


def test_a_private_key_is_masked_line_by_line():
    body = ["MIIEowIBAAKCAQEAx9", "Proc-Type: 4,ENCRYPTED", "abcd+/=="]
    for begin, mark in (("RSA PRIVATE KEY", "+"), ("OPENSSH PRIVATE KEY", ""), ("PRIVATE KEY", " ")):
        lines = [f"-----BEGIN {begin}-----", *body, f"-----END {begin}-----", "x = 1"]
        kept = [lines[0], MASK, MASK, MASK, *lines[4:]]
        got = PLAIN.content("\n".join(mark + line for line in lines).encode())

        assert got == ("\n".join(mark + line for line in kept).encode(), 1)


def test_a_private_key_that_was_cut_off_is_masked_too():
    text = b'k = "-----BEGIN PRIVATE KEY-----\\nMIIEowIBAAKCAQEA\\nab'

    assert PLAIN.content(text).data == b'k = "-----BEGIN PRIVATE KEY-----\\n***\\n***'


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".env",
            "a/.env.local",
            "prod.env",
            "x.pem",
            "k.KEY",
            "id_rsa",
            "id_ed25519.pub",
            ".netrc",
            ".npmrc",
        ),
        *("my_credentials.json", "gcp-Secret.yaml", ".pypirc", ".ssh/config", "deploy/secrets/a.py"),
    ],
)
def test_a_file_that_is_secret_by_its_name(path):
    assert is_secret_file(path)


@pytest.mark.parametrize(
    "path", ["environment.yml", "keys.py", "tokenizer.json", "train.py", "env/setup.sh", "a.ssh"]
)
def test_a_file_that_is_not(path):
    assert not is_secret_file(path)


@given(
    st.binary(max_size=400),
    st.lists(st.sampled_from([*SECRETS.values(), *SECRETS, *URLS, "=", '"', "\n", ": "])),
)
@example(b"\xff", [])
def test_masking_any_bytes_keeps_the_lines_and_is_done_once(noise, pieces):
    data = noise + "".join(pieces).encode()
    masked = Masker(SECRETS.values()).content(data)

    assert masked.data.count(b"\n") == data.count(b"\n")
    assert (masked.places == 0) == (masked.data == data)
    assert not any(value.encode() in masked.data for value in SECRETS.values())
    assert Masker(SECRETS.values()).content(masked.data).data == masked.data


@given(st.text(max_size=200))
def test_masking_any_text_gives_text(text):
    assert isinstance(PLAIN.text(text), str)
    assert isinstance(strip_credentials(text), str)
    assert len(PLAIN.arguments([text, text])) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"key" * 300_000,
        b"key=" * 60_000,
        b"a://" * 200_000,
        b"x" * 1_000_000 + b"://",
        b"?" + b"a" * 900_000 + b"sig=",
        b"-----BEGIN PRIVATE KEY-----\n" * 30_000,
        b"eyJ" * 300_000,
        b"a:b@" * 100_000 + b"://key",
    ],
)
def test_no_bytes_take_long(data):
    before = time.process_time()
    PLAIN.content(data)

    assert time.process_time() - before < 20
