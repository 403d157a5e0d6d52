"""Models that another tool trained and asked: their logits, read into our extraction layout.

Three layouts are read:

- ``tf-privacy``, as Google's mi_lira_2021 writes them: PATH/experiment-*/logits/<10 digits>.npy
  (n x 1 x queries x classes), PATH/experiment-*/keep.npy (n booleans), PATH/y_train.npy
- ``lira-pytorch``, as orientino/lira-pytorch writes them: PATH/<id>/logits.npy (n x queries x
  classes), PATH/<id>/keep.npy; the labels are a file of their own
- ``parquet``: our own extraction layout, PATH/checkpoint-*/seed*-split*.parquet, or that below
  one folder for each technique

:func:`list_models` looks at names only, so that a workflow can be planned without reading data.
"""

from miagap.imports.answers import phi_and_loss, read_labels, read_model
from miagap.imports.listing import list_models
from miagap.imports.membership import find_pairs, read_membership
from miagap.imports.sizes import Size, size
from miagap.imports.source import Imported, ImportedModel

__all__ = [
    "Imported",
    "ImportedModel",
    "Size",
    "find_pairs",
    "list_models",
    "phi_and_loss",
    "read_labels",
    "read_membership",
    "read_model",
    "size",
]
