"""What the README shows is what happens."""

import os
import re
import subprocess

from conftest import ROOT
from test_run import farebox, run  # noqa: F401  (the fixture)

README = (ROOT / "README.md").read_text()


def block(language, containing):
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in text)


def shell(command, env=None, code=0):
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def test_the_first_screen(run, tmp_path):  # noqa: F811
    policy = tmp_path / "policy.yaml"
    policy.write_text(block("yaml", "farebox: 1"))
    started = run(POLICY=str(policy))
    _, commands = block("console", "make run").split("\n\n", 1)
    command, output = re.fullmatch(r"\$ (for .*?; done)\n(.*)", commands.strip(), re.S).groups()
    # What jq does, without jq: the total of an answer, or the message of a refusal.
    jq = re.search(r"\|\s*jq '(.*?)'", command, re.S)
    assert jq[1] == ".usage.total_tokens // .error.message"
    python = "python3 -c \"import json,sys; a=json.load(sys.stdin); print(a['usage']['total_tokens'] if 'usage' in a else a['error']['message'])\""
    command = command.replace(jq[0], "| " + python).replace("127.0.0.1:10000", f"127.0.0.1:{started.env['PORT']}")
    seen = shell(command).splitlines()
    shown = output.splitlines()
    assert seen[:3] == shown[:3] == ["28", "28", "28"]
    told = re.sub(r"anew in (5h|4h59m) \(decision [^)]*", "anew in 4h59m (decision …", seen[3])
    assert told == shown[3].strip('"')


def test_the_commands_about_policies(tmp_path):
    (tmp_path / "policy.yaml").write_text((ROOT / "examples/quickstart/policy.yaml").read_text())
    env = os.environ | {"PATH": f"{os.path.dirname(farebox())}:{os.environ['PATH']}"}
    commands = re.findall(r"^\$ (farebox .*?)\s+#", block("console", "farebox check"), re.M)
    (tmp_path / "prompt.txt").write_text("2 + 2 = 4")
    assert [command.split()[1] for command in commands] == ["check", "check", "explain", "count", "test"]
    (tmp_path / "new.yaml").write_text((tmp_path / "policy.yaml").read_text().replace("1000 credits", "2000 credits"))
    check, against, explain, count, test = (shell(f"cd {tmp_path} && {command}", env) for command in commands)
    assert (check, against, count) == ("", "", "7 prompt.txt\n")
    assert "plan trial, of " in explain
    assert re.search(r"^[1-9]\d* passed, 0 failed", test, re.M)


def test_the_commands_about_usage(run):  # noqa: F811
    started = run()
    env = os.environ | {"PATH": f"{os.path.dirname(farebox())}:{os.environ['PATH']}"}
    listen, usage, curl = re.findall(r"^\$ (.*?)(?:\s+#.*)?$", block("console", "farebox usage"), re.M)
    assert listen == "farebox collector --listen 127.0.0.1:8081 --db farebox.db"
    ledger = f"127.0.0.1:{started.env['COLLECTOR_PORT']}"
    assert "seat" in shell(f"{usage} --collector http://{ledger}", env)
    assert '"by":"model"' in shell(curl.replace("127.0.0.1:8081", ledger), env)


def test_every_label_that_is_promised_is_one_in_envoy():
    rows = re.findall(r"^\| ((?:`farebox_\w+`(?:, )?)+) \| ((?:`\w+` ?)*)\|", README, re.M)
    promised = {label for _, labels in rows for label in re.findall(r"`(\w+)`", labels)}
    tags = set(re.findall(r"tag_name: (\w+)", (ROOT / "envoy/envoy.yaml").read_text()))
    assert len(rows) > 15 and promised <= tags, promised - tags
