"""miagap: how generalization and membership leakage of image classifiers go together.

Plain functions over arrays and tables. The package knows nothing of Snakemake;
the rules in ``workflow/rules`` call it through the thin scripts in ``workflow/scripts``.
"""

__version__ = "0.1.0"
