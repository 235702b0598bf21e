"""`dissect arithmetic`: sums of concepts in latent space."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output
from dissect.cli.walk import Reader

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dissect.figures.latent_space import Column
    from dissect.latent_space import ArithmeticResult, Condition, Term, TrialResult
    from dissect.segmentation import AttributeReader, Realism

__all__ = ["arithmetic"]

_ORDINARY = 4_000  # samples that say what is ordinary
_SHOWN = 5  # exemplars in the figure
_RANDOM = 100  # latents of the control


def arithmetic(
    expression: Annotated[
        str, typer.Argument(help='Such as "smiling woman - neutral woman + neutral man".')
    ],
    model: Model = "faces64",
    exemplars: Annotated[
        Path | None,
        typer.Option(help="JSON file that lists, for each concept, indices of latents."),
    ] = None,
    find: Annotated[
        list[str] | None,
        typer.Option(
            help='A concept found by attributes, "smiling woman=smile>0.8,hair_length>0.5"; '
            "repeatable."
        ),
    ] = None,
    means: Annotated[
        int, typer.Option(help="Exemplars averaged for each concept (3 in the paper).", min=1)
    ] = 3,
    among: Annotated[
        int, typer.Option(help="Samples looked through with --find.", min=1, max=100_000)
    ] = 4_000,
    clearest: Annotated[
        float,
        typer.Option(
            help="Of the samples found, the share that is drawn from: those whose latents lie "
            "deepest inside the concept; 1 draws from all."
        ),
    ] = 0.25,
    name: Annotated[str, typer.Option(help="What the result is called below the picture.")] = "",
    want: Annotated[
        str | None,
        typer.Option(help="What the result should show, glasses>0.5,hair_length>0.4."),
    ] = None,
    trials: Annotated[
        int,
        typer.Option(
            help="Repeat the sum with other exemplars so often, for means of 1, 3, 5 and 10, and "
            "count (with --find and --want).",
            min=0,
        ),
    ] = 0,
    scale: Annotated[float, typer.Option(help="Of the uniform noise around the result.")] = 0.25,
    reader: Reader = "auto",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Add and subtract concepts in latent space, and beside it in pixel space (section 6.3.2)."""
    import torch

    from dissect._utils.device import resolve_device
    from dissect._utils.images import to_images
    from dissect._utils.io import write_image, write_json
    from dissect.figures.latent_space import arithmetic_figure
    from dissect.latent_space import (
        ArithmeticResult,
        TrialResult,
        attribute_reader_for,
        neighbours,
        parse_conditions,
        parse_expression,
        pixel_sum,
        random_sum,
        vector_sum,
    )
    from dissect.models import generate, latents_for, load
    from dissect.segmentation import Realism

    output = Output(as_json=as_json)
    terms = parse_expression(expression)
    place = resolve_device(device)
    generator = load(model, device=place)
    eyes = attribute_reader_for(reader, model, place)
    if (want or find or trials) and eyes is None:
        raise DissectError(f"--find, --want and --trials need a reader of {model}; see --reader")
    wanted = parse_conditions(want, eyes.names) if want and eyes is not None else ()
    if trials and not (wanted and find):
        raise DissectError("--trials needs --find for the exemplars and --want for the result")
    pools, indices = _pools(generator, model, terms, exemplars, find, among, clearest, seed, eyes)
    chosen = {concept: z[:means] for concept, z in pools.items()}
    for concept, z in chosen.items():
        if len(z) < means:
            raise DissectError(
                f"{concept!r} has {len(z)} exemplars, fewer than --means {means}: list or look "
                "through more, or loosen its conditions"
            )
    latent_means = {concept: z.mean(0) for concept, z in chosen.items()}
    result = vector_sum(terms, latent_means)
    around = neighbours(result, 8, scale=scale, seed=seed)
    block = generate(generator, torch.cat([around[:4], result[None], around[4:]]))
    columns, images = [], {}
    for place_in_sum, term in enumerate(terms):
        column, images[term.concept] = _column(generator, term, chosen[term.concept], place_in_sum)
        columns.append(column)
    summed = pixel_sum(terms, {concept: shown.mean(0) for concept, shown in images.items()})
    title = name or expression
    figure = arithmetic_figure(columns, to_images(block), to_images(summed[None])[0], result=title)
    output.wrote(write_image(out / "arithmetic.png", figure))
    values: dict[str, object] = {
        "n": means,
        "expression": {term.concept: term.factor for term in terms},
        "exemplars": {concept: rows[:means] for concept, rows in indices.items()},
        "seed": seed,
    }
    text = [f"{expression}, {means} exemplars a concept"]
    if eyes is not None:
        shown = {
            "result": dict(zip(eyes.names, eyes.read(block[4:5])[0].tolist(), strict=True)),
            "pixel_sum": dict(zip(eyes.names, eyes.read(summed[None])[0].tolist(), strict=True)),
        }
        values["attributes"] = shown
    if wanted and eyes is not None:
        realism = Realism.from_samples(
            eyes, generate(generator, latents_for(generator, _ORDINARY, seed + 1))
        )
        last = vector_sum(terms[-1:], latent_means)
        random = random_sum(result.repeat(_RANDOM, 1), last.repeat(_RANDOM, 1), seed=seed)
        compared = (block, summed[None], generate(generator, random))
        found = [ArithmeticResult.from_images(each, eyes, wanted, realism) for each in compared]
        scores = [TrialResult(means, 1, *found)]
        values["shown"] = asdict(scores[0])
        if trials:
            scores += _trials(generator, eyes, terms, pools, wanted, realism, trials, seed)
            values["trials"] = [asdict(score) for score in scores[1:]]
        text += _table(scores, terms[-1].concept)
    output.wrote(write_json(out / "arithmetic.json", values))
    output.result(values, "\n".join(text))


def _pools(
    generator: "nn.Module",
    model: str,
    terms: "tuple[Term, ...]",
    file: Path | None,
    find: list[str] | None,
    among: int,
    share: float,
    seed: int,
    reader: "AttributeReader | None",
) -> tuple[dict[str, "Tensor"], dict[str, list[int]]]:
    """For each concept the latents that stand for it, and their indices."""
    from dissect.latent_space import (
        Exemplars,
        matching,
        most_confident,
        parse_conditions,
        read_attributes,
    )
    from dissect.models import fingerprint, latents_for

    listed = None if file is None else Exemplars.load(file)
    if listed is not None:
        listed.check(fingerprint(generator))
    found: dict[str, str] = {}
    for text in find or []:
        concept, equals, conditions = text.partition("=")
        if not equals or not concept.strip():
            raise DissectError(f"--find {text!r}: write NAME=CONDITIONS, smiling=smile>0.8")
        found[" ".join(concept.split())] = conditions
    parsed = {
        concept: parse_conditions(conditions, reader.names)
        for concept, conditions in found.items()
        if reader is not None
    }
    known = [*found, *(listed.concepts if listed is not None else ())]
    for term in terms:
        if term.concept not in known:
            from dissect._utils.schema import near_names

            near = near_names(term.concept, known)
            raise DissectError(
                f"unknown concept {term.concept!r}; described by --exemplars or --find: {near}"
            )
    pools: dict[str, Tensor] = {}
    indices: dict[str, list[int]] = {}
    if parsed and reader is not None:
        candidates = latents_for(generator, among, seed)
        values = read_attributes(generator, reader, candidates)
        for concept, limits in parsed.items():
            if not bool(matching(values, limits, reader).any()):
                raise DissectError(
                    f"none of {among} samples of {model} is {found[concept]}: loosen it, or look "
                    "among more"
                )
            rows = most_confident(candidates, values, limits, reader, fraction=share)
            pools[concept], indices[concept] = candidates[rows], rows.tolist()
    for term in terms:
        if listed is not None and term.concept not in pools:
            picked = list(listed.indices(term.concept))
            z = latents_for(generator, listed.n, listed.seed)
            pools[term.concept], indices[term.concept] = z[picked], picked
    return (
        {term.concept: pools[term.concept] for term in terms},
        {term.concept: indices[term.concept] for term in terms},
    )


def _column(
    generator: "nn.Module", term: "Term", z: "Tensor", place: int
) -> tuple["Column", "Tensor"]:
    from dissect._utils.images import to_images
    from dissect.figures.latent_space import Column
    from dissect.models import generate

    images = generate(generator, z)
    sign = ("-" if term.factor < 0 else "+") if place or term.factor < 0 else ""
    if abs(term.factor) != 1:
        sign = f"{sign or '+'} x {abs(term.factor):g}"
    column = Column(
        name=term.concept,
        sign=sign,
        exemplars=to_images(images[:_SHOWN]),
        mean=to_images(generate(generator, z.mean(0, keepdim=True)))[0],
        pixel_mean=to_images(images.mean(0, keepdim=True))[0],
    )
    return column, images


def _trials(
    generator: "nn.Module",
    reader: "AttributeReader",
    terms: "tuple[Term, ...]",
    pools: dict[str, "Tensor"],
    wanted: "tuple[Condition, ...]",
    realism: "Realism",
    n: int,
    seed: int,
) -> list["TrialResult"]:
    from dissect.latent_space import evaluate_arithmetic

    smallest = min(map(len, pools.values()))
    return [
        evaluate_arithmetic(
            generator, reader, terms, pools, wanted, realism, exemplars=k, n=n, seed=seed
        )
        for k in (1, 3, 5, 10)
        if k <= smallest
    ]


def _table(scores: list["TrialResult"], last: str) -> list[str]:
    def shares(shown: "ArithmeticResult") -> str:
        return f"{shown.wanted:.1%} / {shown.ordinary:.1%} / {shown.both:.1%}"

    head = (
        "wanted attributes / ordinary among samples / both, of latents, of pixels, and of random "
        f"latents as far from {last!r}:"
    )
    return [
        head,
        *(
            f"  {f'{score.n} sums' if score.n > 1 else 'this sum, its neighbours'}, means of "
            f"{score.exemplars}: {shares(score.latent)}, {shares(score.pixels)}, "
            f"{shares(score.random)}"
            for score in scores
        ),
    ]
