"""Make a quantized checkpoint: check what can be checked first, then run a library, then check its work.

The libraries run in their own environments (server/inside/quantize_*.py). What comes out is keyed by what
went in: model, recipe, settings, texts, script and pinned packages. It gets its name when it is whole, so one
that was cut off is never found. The texts in texts/calibration are our own, under the project's licence.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import checkpoints, environments, making, model_folder, models, places, programs, recipes
from server.errors import ServerError, UsageError
from server.making import Say
from server.recipes import Recipe

INSIDE = Path(__file__).parent / "inside"
TEXTS = Path(__file__).parent / "texts" / "calibration"
SCRIPTS = {"autoawq": INSIDE / "quantize_autoawq.py", "llm-compressor": INSIDE / "quantize_llmcompressor.py"}
SAMPLER = INSIDE / "calibration_ids.py"
SAMPLES, SEQUENCE = 24, 256
WORST = 2
"""So many times the limit of all layers' mean is that of a single one."""
LIMIT_S = 24 * 3600
SHORT_LIMIT_S = 1800
OFFLINE = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
LIBRARIES = ("autoawq", "llmcompressor", "compressed-tensors", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class Job:
    """All that a checkpoint depends on."""

    recipe: Recipe
    source: Path  # the model's folder
    made_from: dict[str, str]  # which model that is
    python: Path
    group_size: int  # 0 where the recipe has none
    texts: Sequence[str]  # none where the recipe needs none
    samples: int
    sequence: int
    keep_bug: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What the user could have chosen otherwise."""
        found: dict[str, Any] = {"group_size": self.group_size} if self.group_size else {}
        if self.recipe.calibrated:
            found |= {"samples": self.samples, "sequence": self.sequence}
        return found | ({"keep_bug": True} if self.keep_bug else {})

    @property
    def libraries(self) -> dict[str, str]:
        """The pinned versions of what makes the checkpoint."""
        file = environments.REQUIREMENTS / f"{self.recipe.environment}.txt"
        pinned = dict(pin.split("==") for pin in environments.pins(file))
        return {name: pinned[name] for name in LIBRARIES if name in pinned}

    @property
    def key(self) -> str:
        """What tells this checkpoint from any other."""
        said = json.dumps([self.recipe.name, self.settings, self.libraries])
        scripts = [SCRIPTS[self.recipe.environment], *([SAMPLER] if self.recipe.calibrated else [])]
        return making.key(self.made_from["fingerprint"], said, *scripts, *self.texts)


def quantize(  # noqa: PLR0913 - each is an option of the command
    model: str,
    recipe: str,
    *,
    revision: str = "",
    group_size: int | None = None,
    samples: int = SAMPLES,
    sequence: int = SEQUENCE,
    calibration: Path | None = None,
    out: Path | None = None,
    keep_bug: bool = False,
    say: Say = lambda _line: None,
) -> Path:
    """Return the folder of a checkpoint, made unless it stands; `calibration` is a folder of texts.

    `keep_bug` uses AutoAWQ as it is, which on a CPU gives garbage: the quality gate must find that. Raises
    UsageError before anything slow if something does not fit, ServerError if it could not be made.
    """
    chosen = recipes.find(recipe)
    if keep_bug and chosen.environment != "autoawq":
        raise UsageError(f"keep-bug: found the recipe {recipe}, expected awq: the bug is AutoAWQ's")
    texts = enough(read_texts(calibration or TEXTS), samples, sequence) if chosen.calibrated else []
    python = environments.python(chosen.environment)
    resolved = models.resolve(model, revision, say)
    size = _check_model(models.config(resolved, python, say), chosen, group_size, sequence)
    source = resolved.path or models.fetch(resolved, python, say)
    if not resolved.path:
        model_folder.look(source)
    made_from = {
        "model": checkpoints.label(resolved),
        "revision": resolved.revision,
        "fingerprint": checkpoints.fingerprint(source),
    }
    job = Job(chosen, source, made_from, python, size, texts, samples, sequence, keep_bug)
    name = f"{recipe}-broken" if keep_bug else recipe
    folder = out.absolute() if out else checkpoints.place(resolved, name)
    checkpoints.refuse_foreign(folder)
    if not making.is_made(folder, job.key):
        _check_disk(folder, source)
    return making.make_once(folder, job.key, lambda work: _make(job, work, say))


def read_texts(place: Path) -> list[str]:
    """Return the texts of a folder (*.txt, by name) or of one file; raises UsageError."""
    files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
    try:
        texts = [file.read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"calibration texts: {place}: cannot be read ({error}), expected text in UTF-8"
        ) from None
    if not any(text.strip() for text in texts):
        raise UsageError(f"calibration texts: {place}: found none, expected *.txt with text")
    return texts


def enough(texts: Sequence[str], samples: int, sequence: int) -> Sequence[str]:
    """Return the texts, unless they are too short for any tokenizer: then it raises UsageError.

    A token has one byte at least. How many there are, only the model's tokenizer knows; it counts them before
    the model is loaded.
    """
    size = sum(len(text.encode()) for text in texts)
    if size < samples * sequence:
        raise UsageError(
            f"calibration texts: found {size} bytes, expected more than the {samples * sequence} tokens"
            f" that {samples} samples of {sequence} need"
        )
    return texts


def _check_model(config: dict[str, Any], recipe: Recipe, wanted: int | None, sequence: int) -> int:
    """Return the group size, 0 where there is none."""
    recipes.check(config, recipe)
    longest = config.get("max_position_embeddings", sequence)
    if recipe.calibrated and sequence > longest:
        raise UsageError(
            f"sequence: found {sequence}, expected at most {longest}, the model's longest context"
        )
    if recipe.grouped:
        return recipes.group_size(config, wanted)
    if wanted is not None:
        raise UsageError(f"group size: found {wanted}, expected none: {recipe.name} has no groups to choose")
    return 0


def _check_disk(folder: Path, source: Path) -> None:
    """Refuse a disk that could not hold the model once more; a checkpoint is smaller."""
    needed = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    place = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UsageError(f"{place}: found {free / 1e9:.1f} GB free, expected {needed / 1e9:.1f} GB")


def _make(job: Job, work: Path, say: Say) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tokenswarm-") as scratch:
        argv = _command(job, work, Path(scratch))
        say(f"{job.recipe.name}: loading {job.source}")
        programs.run(argv, _log(work.name, "run"), say=say, limit_s=LIMIT_S, variables=OFFLINE)
    checkpoints.complete(work, job.source, job.recipe)
    say("comparing the weights with the model's")
    error = _weight_error(job, work)
    record = {
        "recipe": job.recipe.name,
        "settings": job.settings,
        "libraries": job.libraries,
        "source": job.made_from,
        "seconds": round(time.monotonic() - began, 1),
        "weight_error": error,
    }
    (work / checkpoints.RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    say(f"weights differ by {error['mean']:.3f} of their size (worst layer {error['worst']:.3f})")


def _command(job: Job, work: Path, scratch: Path) -> list[str | Path]:
    """Return the command that quantizes; calibration samples are cut first, and counted."""
    argv: list[str | Path] = [job.python, SCRIPTS[job.recipe.environment], job.source, work]
    if job.recipe.environment == "llm-compressor":
        argv.append(job.recipe.name)
    if job.group_size:
        argv += ["--group-size", str(job.group_size)]
    if job.keep_bug:
        argv.append("--keep-bug")
    if job.recipe.calibrated:
        texts, ids = scratch / "texts.json", scratch / "ids.json"
        texts.write_text(json.dumps(job.texts), encoding="utf-8")
        sizes = ["--samples", str(job.samples), "--sequence", str(job.sequence)]
        cut: list[str | Path] = [job.python, SAMPLER, job.source, texts, ids, *sizes]
        try:
            programs.run(cut, _log(work.name, "texts"), limit_s=SHORT_LIMIT_S, variables=OFFLINE)
        except ServerError as error:  # too few tokens, or no tokenizer to count them
            raise UsageError(str(error)) from None
        argv += ["--calibration", ids]
    return argv


def _weight_error(job: Job, work: Path) -> dict[str, Any]:
    """Return the error of the weights; raises ServerError where it says that the checkpoint is broken."""
    argv = [job.python, INSIDE / "weight_error.py", job.source, work]
    printed = programs.run(argv, _log(work.name, "error"), limit_s=SHORT_LIMIT_S, variables=OFFLINE)
    error: dict[str, Any] = json.loads(printed.splitlines()[-1])
    limit = job.recipe.error_limit
    if job.keep_bug:
        return error
    for name, most in (("mean", limit), ("worst", WORST * limit)):
        if not error[name] <= most:  # so that no NaN passes
            of = "" if name == "mean" else "in their worst layer "
            found = f"weights that differ {of}by {error[name]:.2f} of their size from the model's"
            raise ServerError(f"{job.recipe.name}: found {found}, expected at most {most:g}")
    return error


def _log(name: str, step: str) -> Path:
    return places.logs() / f"quantize-{name.strip('.').removesuffix('.partial')}-{step}.log"
