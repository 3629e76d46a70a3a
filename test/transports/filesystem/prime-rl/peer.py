"""prime-rl's halves of the handshake, written fresh from contracts/prime-rl.md 3.5: the counterpart of the tests.

peer.py orchestrator stable|dotfiles BROADCASTS VERSION   waits for the announcement, answers, prints what it sees
peer.py trainer stable|dotfiles BROADCASTS VERSION [FILE] announces, waits for the answer, sends; by files: writes FILE
"""

import shutil
import sys
import time
from pathlib import Path

role, generation, broadcasts, version = sys.argv[1:5]
files = sys.argv[5:]
step = Path(broadcasts) / f"step_{version}"
asks = step / ("STABLE" if generation == "stable" else ".sender_ready")
answers = step / ("NCCL_READY" if generation == "stable" else ".receiver_ready")


def wait_for(path, seconds=30):
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            sys.exit(f"{path} never came")
        time.sleep(0.01)


def say(text):
    print(text, flush=True)


if role == "orchestrator":
    wait_for(asks)
    say("paused")
    answers.parent.mkdir(parents=True, exist_ok=True)
    answers.touch()
    if generation == "dotfiles":
        wait_for(step / ".finished")
        say("started" if (step / ".started").exists() else "never started")
        say("finished")
else:
    if generation == "dotfiles" and step.exists():
        shutil.rmtree(step)
    step.mkdir(parents=True, exist_ok=True)
    asks.touch()
    say("announced")
    wait_for(answers)
    say("sending")
    if generation == "dotfiles":
        (step / ".started").touch()
        for file in files:
            (step / file).touch()
        (step / ".finished").touch()
