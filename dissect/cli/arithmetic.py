"""`dissect arithmetic`: sums of concepts in latent space."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import (
    FaceGeneratorOptions,
    Given,
    OutputOptions,
    ReaderName,
    with_groups,
)
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import Tensor, nn

    from dissect.figures.latent_space import ConceptColumn
    from dissect.latent_space import ArithmeticResult, Condition, Term, TrialResult
    from dissect.segmentation import AttributeReader, Realism

__all__ = ["arithmetic"]

_N_ORDINARY = 4_000  # samples that give the range of ordinary distances
_N_SHOWN = 5  # exemplars in the figure
_N_RANDOM = 100  # latents of the control
_EXEMPLARS, _MEASURE = "Exemplars", "Measurement"


@with_groups
def arithmetic(
    expression: Annotated[
        str,
        typer.Argument(help='The sum, such as "smiling woman - neutral woman + neutral man".'),
    ],
    model: FaceGeneratorOptions,
    output: OutputOptions,
    given: Given,
    name: Annotated[str, typer.Option(help="The caption of the result in the figure.")] = "",
    scale: Annotated[
        float, typer.Option(help="The scale of the uniform noise that gives the neighbours.")
    ] = 0.25,
    reader: ReaderName = "auto",
    exemplars: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file that lists indices of latents for each concept.",
            rich_help_panel=_EXEMPLARS,
        ),
    ] = None,
    find: Annotated[
        list[str] | None,
        typer.Option(
            help='A concept that is found by attributes, such as "smiling=smile>0.8,yaw<20"; '
            "repeatable.",
            rich_help_panel=_EXEMPLARS,
        ),
    ] = None,
    n_exemplars: Annotated[
        int,
        typer.Option(
            "--n-exemplars",
            help="Number of exemplars that are averaged for each concept. The paper has 3.",
            min=1,
            max=10_000,
            rich_help_panel=_EXEMPLARS,
        ),
    ] = 3,
    pool: Annotated[
        int,
        typer.Option(
            help="Number of samples that --find searches.",
            min=1,
            max=100_000,
            rich_help_panel=_EXEMPLARS,
        ),
    ] = 4_000,
    top_by_confidence: Annotated[
        float,
        typer.Option(
            help="The fraction of the samples found that exemplars are drawn from: those whose "
            "latents lie deepest inside the concept.",
            rich_help_panel=_EXEMPLARS,
        ),
    ] = 0.25,
    expect: Annotated[
        str | None,
        typer.Option(
            help="The attributes that the result should show, such as glasses>0.5,hair_length>0.4.",
            rich_help_panel=_MEASURE,
        ),
    ] = None,
    n: Annotated[
        int,
        typer.Option(
            "--n",
            help="Number of sums with other exemplars that are measured, for means of 1, 3, 5 and "
            "10 exemplars. It needs --find and --expect.",
            min=0,
            max=100_000,
            rich_help_panel=_MEASURE,
        ),
    ] = 0,
) -> None:
    """Add and subtract concepts in latent space, and beside it in pixel space (section 6.3.2)."""
    import torch

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
    from dissect.models import generate, latent_vectors
    from dissect.segmentation import Realism

    printed = Output(as_json=output.as_json)
    if not find:
        given.refuse("without --find", "pool", "top_by_confidence")
    terms = parse_expression(expression)
    out, seed = output.out, output.seed
    generator = model.load()
    attributes = attribute_reader_for(reader, model.model, model.resolve())
    if (expect or find or n) and attributes is None:
        raise DissectError(f"--find, --expect and --n need a reader of {model.model}; see --reader")
    expected = parse_conditions(expect, attributes.names) if expect and attributes else ()
    if n and not (expected and find):
        raise DissectError("--n needs --find for the exemplars and --expect for the result")
    pools, indices = _pools(
        generator, model.model, terms, exemplars, find, pool, top_by_confidence, seed, attributes
    )
    chosen = {concept: z[:n_exemplars] for concept, z in pools.items()}
    for concept, z in chosen.items():
        if len(z) < n_exemplars:
            raise DissectError(
                f"{concept!r} has {len(z)} exemplars, fewer than --n-exemplars {n_exemplars}: "
                "list or search more, or loosen its conditions"
            )
    latent_means = {concept: z.mean(0) for concept, z in chosen.items()}
    result = vector_sum(terms, latent_means)
    around = neighbours(result, 8, scale=scale, seed=seed)
    block = generate(generator, torch.cat([around[:4], result[None], around[4:]]))
    columns, images = [], {}
    for number, term in enumerate(terms):
        column, images[term.concept] = _column(generator, term, chosen[term.concept], number)
        columns.append(column)
    summed = pixel_sum(terms, {concept: group.mean(0) for concept, group in images.items()})
    title = name or expression
    figure = arithmetic_figure(columns, to_images(block), to_images(summed[None])[0], result=title)
    printed.wrote(write_image(out / "arithmetic.png", figure))
    values: dict[str, object] = {
        "n": n,
        "n_exemplars": n_exemplars,
        "expression": {term.concept: term.factor for term in terms},
        "exemplars": {concept: rows[:n_exemplars] for concept, rows in indices.items()},
        "seed": seed,
    }
    text = [f"{expression}, {n_exemplars} exemplars a concept"]
    if attributes is not None:
        compared = {"result": block[4:5], "pixel_sum": summed[None]}
        values["attributes"] = {
            kind: dict(zip(attributes.names, attributes.read(image)[0].tolist(), strict=True))
            for kind, image in compared.items()
        }
    if expected and attributes is not None:
        realism = Realism.from_samples(
            attributes, generate(generator, latent_vectors(generator, _N_ORDINARY, seed + 1))
        )
        last = vector_sum(terms[-1:], latent_means)
        random = random_sum(result.repeat(_N_RANDOM, 1), last.repeat(_N_RANDOM, 1), seed=seed)
        latent, pixels, control = (
            ArithmeticResult.from_images(group, attributes, expected, realism)
            for group in (block, summed[None], generate(generator, random))
        )
        scores = [TrialResult(n_exemplars, 1, latent, pixels, control)]
        values["shown"] = scores[0].to_dict()
        if n:
            scores += _trials(generator, attributes, terms, pools, expected, realism, n, seed)
            values["trials"] = [score.to_dict() for score in scores[1:]]
        text += _table(scores, terms[-1].concept)
    printed.wrote(write_json(out / "arithmetic.json", values))
    printed.result(values, "\n".join(text))


def _pools(
    generator: "nn.Module",
    model: str,
    terms: "tuple[Term, ...]",
    file: Path | None,
    find: list[str] | None,
    n: int,
    fraction: float,
    seed: int,
    reader: "AttributeReader | None",
) -> tuple[dict[str, "Tensor"], dict[str, list[int]]]:
    """For each concept the latents that represent it, and their indices."""
    from dissect.latent_space import (
        Exemplars,
        matching,
        most_confident,
        parse_conditions,
        read_attributes,
    )
    from dissect.models import fingerprint, latent_vectors

    listed = None if file is None else Exemplars.load(file)
    if listed is not None:
        listed.check(fingerprint(generator))
    conditions_of: dict[str, str] = {}
    for text in find or []:
        concept, equals, conditions = text.partition("=")
        if not equals or not concept.strip():
            raise DissectError(f"--find {text!r}: write NAME=CONDITIONS, smiling=smile>0.8")
        conditions_of[" ".join(concept.split())] = conditions
    parsed = {
        concept: parse_conditions(conditions, reader.names)
        for concept, conditions in conditions_of.items()
        if reader is not None
    }
    known = [*conditions_of, *(listed.concepts if listed is not None else ())]
    for term in terms:
        if term.concept not in known:
            from dissect._utils.text import near_names

            near = near_names(term.concept, known)
            raise DissectError(
                f"unknown concept {term.concept!r}; described by --exemplars or --find: {near}"
            )
    pools: dict[str, Tensor] = {}
    indices: dict[str, list[int]] = {}
    if parsed and reader is not None:
        candidates = latent_vectors(generator, n, seed)
        values = read_attributes(generator, reader, candidates)
        for concept, limits in parsed.items():
            if not bool(matching(values, limits, reader).any()):
                raise DissectError(
                    f"none of {n} samples of {model} is {conditions_of[concept]}: loosen it, "
                    "or search more with --pool"
                )
            rows = most_confident(candidates, values, limits, reader, fraction=fraction)
            pools[concept], indices[concept] = candidates[rows], rows.tolist()
    for term in terms:
        if listed is not None and term.concept not in pools:
            picked = list(listed.indices(term.concept))
            z = latent_vectors(generator, listed.n, listed.seed)
            pools[term.concept], indices[term.concept] = z[picked], picked
    return (
        {term.concept: pools[term.concept] for term in terms},
        {term.concept: indices[term.concept] for term in terms},
    )


def _column(
    generator: "nn.Module", term: "Term", z: "Tensor", number: int
) -> tuple["ConceptColumn", "Tensor"]:
    from dissect._utils.images import to_images
    from dissect.figures.latent_space import ConceptColumn
    from dissect.models import generate

    images = generate(generator, z)
    sign = ("-" if term.factor < 0 else "+") if number or term.factor < 0 else ""
    if abs(term.factor) != 1:
        sign = f"{sign or '+'} x {abs(term.factor):g}"
    column = ConceptColumn(
        name=term.concept,
        sign=sign,
        exemplars=to_images(images[:_N_SHOWN]),
        mean=to_images(generate(generator, z.mean(0, keepdim=True)))[0],
        pixel_mean=to_images(images.mean(0, keepdim=True))[0],
    )
    return column, images


def _trials(
    generator: "nn.Module",
    reader: "AttributeReader",
    terms: "tuple[Term, ...]",
    pools: dict[str, "Tensor"],
    expected: "tuple[Condition, ...]",
    realism: "Realism",
    n: int,
    seed: int,
) -> list["TrialResult"]:
    from dissect.latent_space import evaluate_arithmetic

    smallest = min(map(len, pools.values()))
    return [
        evaluate_arithmetic(
            generator, reader, terms, pools, expected, realism, exemplars=k, n=n, seed=seed
        )
        for k in (1, 3, 5, 10)
        if k <= smallest
    ]


def _table(scores: list["TrialResult"], last: str) -> list[str]:
    def fractions(shown: "ArithmeticResult") -> str:
        return f"{shown.wanted:.1%} / {shown.ordinary:.1%} / {shown.both:.1%}"

    head = (
        "expected attributes / ordinary among samples / both, of latents, of pixels, and of random "
        f"latents as far from {last!r}:"
    )
    return [
        head,
        *(
            f"  {f'{score.n} sums' if score.n > 1 else 'this sum, its neighbours'}, means of "
            f"{score.exemplars}: {fractions(score.latent)}, {fractions(score.pixels)}, "
            f"{fractions(score.random)}"
            for score in scores
        ),
    ]
