"""In place of the `outcrop` command: keeps what it is called with, and prints a small result.

`--output=FOLDER/NAME` gets the words as FOLDER/NAME.words.json, and copies of the vector labels and
their style as FOLDER/NAME.labels.gpkg and .qml. OUTCROP_STUB_MAP is a class map that an experiment
"makes". It imports nothing but the standard library, so that it starts in no time.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main(words):
    """Do what the first word says; return the exit code."""
    if words == ["--version"]:
        print(os.environ.get("OUTCROP_STUB_VERSION", "0.1.0"))
        return 0
    options = dict(word[2:].split("=", 1) for word in words if word[:2] == "--" and "=" in word)
    output = Path(options["output"])
    try:
        progress = {"progress": 0.5, "text": "cutting patches"}
        print(json.dumps(progress), file=sys.stderr, flush=True)
        time.sleep(60 if output.name.startswith("slow") else 0)
    except KeyboardInterrupt:
        print("outcrop: stopped; nothing was written", file=sys.stderr)
        return 130
    output.with_name(f"{output.name}.words.json").write_text(json.dumps(words))
    labels = options.get("labels", "")
    if labels.endswith(".gpkg"):
        copy = output.with_name(f"{output.name}.labels.gpkg")
        shutil.copy(labels, copy)
        if Path(labels).with_suffix(".qml").exists():
            shutil.copy(Path(labels).with_suffix(".qml"), copy.with_suffix(".qml"))
    content = {"shape": [1], "classes": {"1": 1}}
    if words[0] == "experiment":
        content = experiment(output)
    if words[0] == "audit":
        content = {"findings": [{"severity": "critical", "title": "patches overlap"}]}
    print(json.dumps({"level": "warning", "message": "pass --per-class"}), file=sys.stderr)
    print(json.dumps(content))
    return int(words[0] == "audit")


def experiment(output):
    """A result folder with one class map, as `outcrop experiment` leaves it."""
    made = Path(os.environ["OUTCROP_STUB_MAP"])
    (output / "maps").mkdir(parents=True)
    for kind in ("classes", "confidence"):
        for suffix in (".tif", ".qml"):
            target = output / "maps" / f"0-scene-{kind}{suffix}"
            shutil.copy(made.with_name(f"{kind}{suffix}"), target)
    (output / "report.html").write_text("<p>report")
    score = {"value": 0.9, "low": 0.8, "high": 0.95}
    row = {"model": "SVM", "features": "centre pixel", "scores": {"balanced": score}}
    return {
        "comparison": {"rows": [{**row, "gap": {"value": 0.05}}]},
        "recommendation": "recommended: SVM, centre pixel",
        "maps": [str(output / "maps" / "0-scene-classes.tif")],
        "report": str(output / "report.html"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
