"""Tables to print: each as CSV (plain numbers), Markdown, LaTeX and HTML."""

TABLE_NAMES = studies.table_names(STUDY)


rule table:
    input:
        unpack(exposed_samples),
        metrics=rules.collect.output.metrics,
        roc=rules.collect.output.roc,
        pooled=rules.collect.output.pooled,
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        markdown=f"{RESULTS}/tables/{{table}}.md",
        latex=f"{RESULTS}/tables/{{table}}.tex",
        html=report(
            f"{RESULTS}/tables/{{table}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"{LOG}/table/{{table}}.log",
    wildcard_constraints:
        table="|".join(TABLE_NAMES),
    conda:
        ENVIRONMENT
    params:
        study=STUDY.name,
        settings=STUDY.presentation_settings(),
        code=CODE["table"],
    script:
        "../scripts/table.py"


TABLES = [
    rules.collect.output.metrics,
    rules.collect.output.generalization,
    rules.collect_vulnerability.output.table,
    expand(
        f"{RESULTS}/tables/{{table}}.{{extension}}",
        table=TABLE_NAMES,
        extension=["csv", "md", "tex", "html"],
    ),
]
