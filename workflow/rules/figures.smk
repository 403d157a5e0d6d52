"""Figures, each in every configured format."""

FIGURE_NAMES = studies.figure_names(STUDY)
FORMATS = STUDY.values["figures"]["formats"]


rule figure:
    input:
        metrics=rules.collect.output.metrics,
        roc=rules.collect.output.roc,
        pooled=rules.collect.output.pooled,
    output:
        shown=report(
            f"{RESULTS}/figures/{{figure}}.{FORMATS[0]}",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        others=[f"{RESULTS}/figures/{{figure}}.{form}" for form in FORMATS[1:]],
    log:
        f"{LOG}/figure/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(map(re.escape, FIGURE_NAMES)),
    conda:
        ENVIRONMENT
    params:
        study=STUDY.name,
        settings=STUDY.presentation_settings(),
        style=STUDY.figure_settings(),
        code=CODE["figure"],
    script:
        "../scripts/figure.py"


FIGURES = expand(
    f"{RESULTS}/figures/{{figure}}.{{form}}", figure=FIGURE_NAMES, form=FORMATS
)

# Imported models have no images.
if not STUDY.imported:

    rule figure_images:
        """The most and the least exposed images."""
        input:
            pool=rules.dataset.output.pool,
            vulnerability=rules.collect_vulnerability.output.table,
        output:
            shown=report(
                f"{RESULTS}/figures/vulnerable_images.{FORMATS[0]}",
                caption="../report/images.rst",
                category="Figures",
                labels={"figure": "vulnerable_images"},
            ),
            others=[
                f"{RESULTS}/figures/vulnerable_images.{form}" for form in FORMATS[1:]
            ],
        log:
            f"{LOG}/figure/vulnerable_images.log",
        conda:
            ENVIRONMENT
        params:
            study=STUDY.name,
            settings=STUDY.presentation_settings(),
            style=STUDY.figure_settings(),
            code=CODE["figure_images"],
        script:
            "../scripts/figure_images.py"

    FIGURES += [f"{RESULTS}/figures/vulnerable_images.{form}" for form in FORMATS]
