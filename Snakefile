"""miagap: how generalization and membership leakage of image classifiers go together.

dataset -> splits -> train -> extract -> shadow pool -> attack -> collect -> tables, figures
"""

import gc

from snakemake.utils import min_version

min_version("9.10")

# Snakemake makes many small objects that stay: looking for waste among them less often saves
# an eighth of the time that a study of 10,000 tuples takes to be planned.
gc.set_threshold(200_000, 20, 20)


# A study's config stands on the schema's defaults alone: the default study is not
# merged into a study that is given with --configfile.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


if STUDY.imported:

    include: "workflow/rules/import.smk"

else:

    include: "workflow/rules/dataset.smk"
    include: "workflow/rules/splits.smk"
    include: "workflow/rules/train.smk"
    include: "workflow/rules/extract.smk"
    include: "workflow/rules/measure.smk"
    include: "workflow/rules/shadow.smk"


include: "workflow/rules/attack.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/vulnerability.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"


# What training will cost; imported models are trained already.
if not STUDY.imported:

    include: "workflow/rules/plan.smk"


# Jobs of seconds that read little, and the one that may need the internet: on a cluster they
# run where Snakemake runs.
localrules:
    all,
    models,
    scores,
    dataset,
    splits,
    collect_vulnerability,
    table,
    figure,
    figure_images,
    plan,


rule all:
    """The whole study: tables and figures."""
    default_target: True
    input:
        MEMBERSHIP,
        TABLES,
        FIGURES,


rule models:
    """All models of the study, trained and extracted."""
    input:
        LOGITS,


rule scores:
    """All attacks of the study."""
    input:
        SCORES,


onstart:
    if not only_planned():
        take_study_lock()
        rescue_models()
        follow_progress()


onerror:
    if not only_planned():
        show_failures()


onsuccess:
    if not only_planned():
        tidy()
        show_outputs()
