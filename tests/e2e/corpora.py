"""Texts to measure with, made of what packages carry: at least 1 MB each of English, Chinese, code, JSON and chat.

    python3 tests/e2e/corpora.py FOLDER

Nothing of it is kept in the repository. Lines that were there before are left out, so that nothing repeats. Two runs on one
machine give the same; on another machine the texts are others, so figures are compared within one run only.
"""

import glob
import itertools
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig

SIZE = 2_000_000
# Debian packages with Chinese prose; they are unpacked, not installed.
CHINESE = ["manpages-zh", "debian-reference-zh-cn", "maint-guide-zh-cn", "debian-faq-zh-cn"]


def files(*patterns, without=None):
    for pattern in patterns:
        for path in sorted(glob.glob(pattern, recursive=True)):
            if without and without in path:
                continue
            try:
                yield pathlib.Path(path).read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                pass


def fresh(texts, keep=lambda line: True, size=SIZE):
    """The first `size` bytes of lines that are seen for the first time."""
    seen, lines, length = set(), [], 0
    for line in itertools.chain.from_iterable(text.splitlines() for text in texts):
        if line.strip() and line not in seen and keep(line):
            seen.add(line)
            lines.append(line)
            length += len(line.encode()) + 1
            if length >= size:
                break
    return "\n".join(lines) + "\n"


def plain(texts):
    """Without markup."""
    for text in texts:
        text = re.sub(r"(?s)<(script|style|code|pre).*?</\1>", " ", text)
        text = re.sub(r"<[^>]*>|&[a-z]+;|^\.[A-Za-z].*$|\\f[A-Z]", "", text, flags=re.M)
        yield text


def chinese(folder):
    away = folder / "packages"
    away.mkdir(exist_ok=True)
    if not any(away.glob("*/usr")):
        subprocess.run(["apt-get", "download", *CHINESE], cwd=away, check=True, stdout=subprocess.DEVNULL)
        for package in sorted(away.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package.name, package.name.split("_")[0]], cwd=away, check=True)
        for packed in away.glob("**/*.gz"):
            subprocess.run(["gzip", "-df", packed], check=False, stderr=subprocess.DEVNULL)
    mostly = lambda line: len(re.findall("[\u4e00-\u9fff]", line)) * 3 > len(line)
    return fresh(plain(files(f"{away}/**/*.html", f"{away}/**/*.[1-9]", f"{away}/**/*.txt")), mostly)


def chat(english, chinese, code):
    """Turns of a conversation: prose in two languages, code in fences, as the bodies of requests have them."""
    sources = [iter(english.splitlines()), iter(chinese.splitlines()), iter(code.splitlines())]
    out, length = [], 0
    for turn in itertools.count():
        lines = [*itertools.islice(sources[turn % 3], 6)]
        text = "\n".join(lines)
        content = f"Look at this:\n```\n{text}\n```\nWhat does it do?" if turn % 3 == 2 else text
        message = {"role": ["user", "assistant"][turn % 2], "content": content}
        out.append(json.dumps(message, ensure_ascii=False))
        length += len(out[-1].encode()) + 2
        if length >= SIZE or not lines:
            return ",\n".join(out) + "\n"


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    crates = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo")) + "/registry/src/*/*"
    library = sysconfig.get_paths()["stdlib"]
    prose = lambda line: len(line) > 60 and sum(c.isalpha() or c == " " for c in line) > 0.9 * len(line)
    texts = {
        "english": fresh(plain(files(f"{crates}/**/*.md", f"{crates}/src/**/*.rs", f"{library}/**/*.py", "/usr/share/doc/**/*")), prose),
        "chinese": chinese(folder),
        "code": fresh(files(f"{library}/*.py", f"{crates}/src/lib.rs", f"{crates}/src/*.rs")),
        # Tables of character sets hold random Unicode, which `make bench-count` has in a row of its own.
        "json": fresh(
            files(
                *("/usr/lib/node_modules/**/*.json", f"{library}/../**/*.json", "/usr/share/**/*.json", f"{crates}/**/*.json"),
                without="/encodings/tables/",
            )
        ),
    }
    texts["chat"] = chat(texts["english"], texts["chinese"], texts["code"])
    for name, text in texts.items():
        assert len(text.encode()) >= 1_000_000, f"{name}: only {len(text.encode())} bytes are to be found here"
        (folder / f"{name}.txt").write_text(text)
        print(f"{name:8} {len(text.encode()):9} bytes")


if __name__ == "__main__":
    main()
