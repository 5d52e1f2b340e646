"""Make, replace, withdraw and show the keys that sign updates; docs/updates.md is the ceremony.

    python -m model_export keys create --keys DIR
    python -m model_export keys rotate release-2 --keys DIR [FURTHER_DIR …]
    python -m model_export keys revoke release-2 --keys DIR [FURTHER_DIR …]
    python -m model_export keys renew --keys DIR [FURTHER_DIR …]
    python -m model_export keys show --keys DIR

Passphrases are asked for; where standard input is no terminal, they are its lines, one for each key
file in the order in which they are needed, and none for a file that an earlier one opens.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from model_export.publisher import (
    KINDS,
    ROLES,
    ROOT_DAYS,
    CannotSign,
    Publisher,
    add_keys_argument,
    ask,
    in_days,
)


def create(publisher: Publisher) -> Path:
    """New keys and the first root; raises CannotSign where the folder holds some already."""
    if publisher.root_path(1).exists():
        raise CannotSign(f"{publisher.folder} is a publisher's folder already.")
    root = Root(version=1, expires=in_days(ROOT_DAYS), consistent_snapshot=False)
    signers: dict[str, list[CryptoSigner]] = {}
    for kind, (count, threshold) in KINDS.items():
        signers[kind] = [publisher.new_key(f"{kind}-{n + 1}") for n in range(count)]
        for role in ROLES[kind]:
            for signer in signers[kind]:
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
    metadata = Metadata(root)
    for signer in signers["root"]:
        metadata.sign(signer, append=True)
    return publisher.write_root(metadata)


def rotate(publisher: Publisher, name: str) -> Path:
    """Put a new key in the place of one that is lost, stolen or old; its file is not needed."""
    kind, key_id = _found(publisher, name)
    # First, so that nobody thinks of a passphrase for a key that cannot be vouched for
    root = _with_root_keys(publisher)
    new = publisher.new_key(_next_name(publisher, kind))
    for role in ROLES[kind]:
        root.revoke_key(key_id, role)
        root.add_key(new.public_key, role)
    return publisher.next_root(root, [new])


def revoke(publisher: Publisher, name: str) -> Path:
    """Withdraw a key for good; raises CannotSign where the rest would be too few to sign."""
    kind, key_id = _found(publisher, name)
    threshold = KINDS[kind][1]
    if len(publisher.names(kind)) <= threshold:
        raise CannotSign(
            f"Without {name} too few {kind} keys are left to sign. Use “keys rotate {name}”, "
            "which withdraws it and makes a new one."
        )
    root = _with_root_keys(publisher)
    for role in ROLES[kind]:
        root.revoke_key(key_id, role)
    return publisher.next_root(root)


def renew(publisher: Publisher) -> Path:
    """The same keys for another three years."""
    return publisher.next_root(_with_root_keys(publisher))


def show(publisher: Publisher) -> str:
    """Who may sign what, and until when."""
    root = publisher.root().signed
    lines = [f"Root {root.version}, until {root.expires:%Y-%m-%d}"]
    for kind, roles in ROLES.items():
        threshold = root.roles[roles[0]].threshold
        lines.append(f"{', '.join(roles)}: {threshold} of")
        lines += [f"  {name}  {key_id}" for name, key_id in publisher.names(kind).items()]
    return "\n".join(lines)


def _found(publisher: Publisher, name: str) -> tuple[str, str]:
    """Kind and key id of a key that may sign."""
    for kind in KINDS:
        if key_id := publisher.names(kind).get(name):
            return kind, key_id
    known = [one for kind in KINDS for one in publisher.names(kind)]
    raise CannotSign(f"No key is called “{name}”. There are {', '.join(known)}.")


def _with_root_keys(publisher: Publisher) -> Root:
    """The newest root to be changed, once it is certain that enough root keys are at hand."""
    root = publisher.root()
    root.signatures.clear()
    publisher.sign("root", root)
    return root.signed


def _next_name(publisher: Publisher, kind: str) -> str:
    """A name that no key of the kind ever had, in any root."""
    numbers = [0]
    for version in range(1, publisher.root().signed.version + 1):
        content = publisher.root_path(version).read_text(encoding="utf-8")
        numbers += map(int, re.findall(rf'"{kind}-(\d+)"', content))
    return f"{kind}-{max(numbers) + 1}"


WORDS = {
    "create": "make a publisher's keys and its first root",
    "rotate": "replace a key that is lost, stolen or old",
    "revoke": "withdraw a key without a new one",
    "renew": "let the same keys hold for another three years",
    "show": "say who may sign what",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this stage."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for step, words in WORDS.items():
        own = steps.add_parser(step, help=words, description=words)
        if step in ("rotate", "revoke"):
            own.add_argument("name", help="name of the key, such as release-2")
        add_keys_argument(own)


def main(options: argparse.Namespace) -> int:
    """Run the stage; returns the exit status."""
    publisher = Publisher(options.keys, ask)
    try:
        if options.step == "show":
            print(show(publisher))
            return 0
        steps = {"create": create, "renew": renew}
        if options.step in steps:
            path = steps[options.step](publisher)
        else:
            path = {"rotate": rotate, "revoke": revoke}[options.step](publisher, options.name)
    except (CannotSign, OSError) as error:
        print(f"{error}\nNothing was signed.", file=sys.stderr)
        return 1
    print(f"{path}\n{show(publisher)}")
    return 0
