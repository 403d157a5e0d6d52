"""From thousands of small per-tuple files to the study's tidy tables."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from miagap import metrics
from miagap.artifacts import read_parquet
from miagap.errors import InputError
from miagap.summary import checkpoint_order

Paths = Iterable[str | PathLike[str]]

TUPLE = ("study", "dataset", "technique", "seed", "split", "checkpoint")
ATTACKED = (
    "study",
    "dataset",
    "technique",
    "attacker_technique",
    "seed",
    "split",
    "checkpoint",
    "protocol",
    "attack",
)
GENERALIZATION = (
    "train_accuracy",
    "test_accuracy",
    "accuracy_gap",
    "train_loss",
    "test_loss",
    "loss_gap",
)
_TPR = tuple(f"tpr_at_fpr_{fpr:g}" for fpr in metrics.FPRS)
METRICS_COLUMNS = (
    *ATTACKED,
    "n_members",
    "n_nonmembers",
    "auc",
    "balanced_accuracy",
    "precision",
    "recall",
    *_TPR,
    *(f"{name}_{end}" for name in _TPR for end in ("lo", "hi")),
    *GENERALIZATION,
)
JOIN = ("technique", "seed", "split", "checkpoint")


def read_tables(files: Paths) -> pa.Table:
    """Read small Parquet files and put their rows together.

    Files may lack columns that others have (an attack without a threshold, say): the rows
    then hold null. File metadata is dropped.

    Raises:
        InputError: no files, one is missing or truncated, or types of a column disagree.
    """
    paths = [str(path) for path in files]
    if not paths:
        raise InputError("collect: no files to collect; run the attack stage first")
    # Opening files waits on the file system, which threads overlap; results keep the order.
    with ThreadPoolExecutor(max_workers=4) as executor:
        tables = list(executor.map(read_parquet, paths, chunksize=64))
    tables = [table.replace_schema_metadata(None) for table in tables]
    # Merging thousands of schemas takes longer than finding that they are all the same.
    alike = all(table.schema.equals(tables[0].schema) for table in tables)
    promote = "none" if alike else "permissive"
    try:
        return pa.concat_tables(tables, promote_options=promote).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(_disagreement(paths, tables, error)) from error


def _disagreement(paths: Sequence[str], tables: Sequence[pa.Table], error: Exception) -> str:
    """Name the first file whose column type cannot go with the first file's."""
    for path, table in zip(paths, tables, strict=True):
        try:
            pa.unify_schemas([tables[0].schema, table.schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as reason:
            text = str(reason).splitlines()[0]
            return f"{path}: columns disagree with {paths[0]} ({text}); delete it and run again"
    return f"{paths[0]}: columns of the files disagree ({str(error).splitlines()[0]})"


def build_metrics_table(files: Paths, generalization: pa.Table | None = None) -> pa.Table:
    """Make tables/metrics.parquet: one row per tuple, attacker and attack.

    Args:
        files: per-tuple metrics files, one row per attack, identity columns included.
        generalization: the table of :func:`build_generalization_table`, whose accuracies,
            losses and gaps are joined by tuple; needed where the files do not hold them.

    Returns:
        The columns that METRICS_COLUMNS names, in that order, then all others by order of
        appearance; rows sorted by identity, so that equal content is equal order.

    Raises:
        InputError: see :func:`read_tables`; also several studies or datasets in the files, a
            row that occurs twice, a column that is missing, a tuple without generalization.
    """
    table = read_tables(files)
    _check(table, ATTACKED)
    if generalization is not None:
        table = _join(table, generalization)
    return _sorted(_ordered(table, METRICS_COLUMNS), ATTACKED)


def build_generalization_table(files: Paths) -> pa.Table:
    """Make tables/generalization.parquet: one row per tuple, identity columns first.

    Raises:
        InputError: as :func:`build_metrics_table`.
    """
    table = read_tables(files)
    _check(table, TUPLE)
    return _sorted(_ordered(table, (*TUPLE, *GENERALIZATION)), TUPLE)


def generalization_of(table: pa.Table) -> pa.Table:
    """Take tables/generalization.parquet out of a metrics table that holds its columns.

    Args:
        table: rows as of :func:`build_metrics_table`; every attack on a tuple repeats the
            tuple's accuracies, losses and gaps.

    Returns:
        One row per tuple, sorted: identity, epoch (where the table has it), n_members,
        n_nonmembers, then accuracies, losses and gaps.

    Raises:
        InputError: rows of one tuple disagree, or a column is missing.
    """
    named = [*TUPLE, "epoch", "n_members", "n_nonmembers", *GENERALIZATION]
    columns = [name for name in named if name != "epoch" or name in table.column_names]
    _ordered(table, [name for name in columns if name != "epoch"])
    distinct = table.select(columns).group_by(columns, use_threads=False).aggregate([])
    _check(distinct, TUPLE)
    return _sorted(distinct.select(columns), TUPLE)


def build_table(files: Paths, identity: Sequence[str]) -> pa.Table:
    """Put together files of any other kind: ROC curves, pooled rows, per-sample results.

    Args:
        files: Parquet files.
        identity: columns that come first and by which rows are sorted; rows that agree in
            them keep their order within the files.

    Raises:
        InputError: see :func:`read_tables`; also a column of ``identity`` that is missing.
    """
    table = read_tables(files)
    _check_one(table, identity)
    return _sorted(_ordered(table, identity), identity)


def _check_one(table: pa.Table, identity: Sequence[str]) -> None:
    """Identity columns are there and without nulls, and all rows are of one study."""
    missing = [name for name in identity if name not in table.column_names]
    if missing:
        raise InputError(f"collect: column missing in all files: {', '.join(missing)}")
    for name in identity:
        if table[name].null_count:
            raise InputError(f"collect: some rows lack {name}; files of different versions?")
    for name in ("study", "dataset"):
        if name in table.column_names:
            found = sorted(str(value) for value in pc.unique(table[name]).to_pylist())
            if len(found) > 1:
                raise InputError(
                    f"collect: files of several values of {name} ({', '.join(found[:4])}); "
                    "collect one study at a time"
                )


def _check(table: pa.Table, identity: Sequence[str]) -> None:
    """:func:`_check_one`, and no two rows have the same identity."""
    _check_one(table, identity)
    counts = table.group_by(list(identity)).aggregate([([], "count_all")])
    twice = counts.filter(pc.greater(counts["count_all"], 1))
    if len(twice):
        example = twice.slice(0, 1).to_pylist()[0]
        text = ", ".join(f"{name} {example[name]}" for name in identity)
        raise InputError(f"collect: {len(twice)} rows occur more than once, such as {text}")


def _join(table: pa.Table, generalization: pa.Table) -> pa.Table:
    """Add each tuple's accuracies, losses and gaps to its rows, in the order of the rows."""
    place = {
        key: row
        for row, key in enumerate(
            zip(*(generalization[name].to_pylist() for name in JOIN), strict=True)
        )
    }
    wanted = list(zip(*(table[name].to_pylist() for name in JOIN), strict=True))
    lost = next((key for key in wanted if key not in place), None)
    if lost is not None:
        text = ", ".join(f"{name} {value}" for name, value in zip(JOIN, lost, strict=True))
        raise InputError(f"collect: no generalization row for {text}; run the extract stage")
    rows = pa.array([place[key] for key in wanted])
    extra = [name for name in generalization.column_names if name not in TUPLE]
    for name in extra:
        if name not in table.column_names:
            table = table.append_column(name, generalization[name].take(rows))
    return table


def _ordered(table: pa.Table, first: Sequence[str]) -> pa.Table:
    """Put the named columns first; those of them that are missing are an error."""
    missing = [name for name in first if name not in table.column_names]
    if missing:
        raise InputError(f"collect: column missing in all files: {', '.join(missing)}")
    rest = [name for name in table.column_names if name not in first]
    return table.select([*first, *rest])


def _sorted(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Sort rows, stably; checkpoints by epoch, then by name."""
    keys = []
    for name in columns:
        values = table[name].to_pylist()
        distinct = set(values)
        if name.endswith("checkpoint"):
            order = {value: at for at, value in enumerate(sorted(distinct, key=checkpoint_order))}
        else:
            order = {value: at for at, value in enumerate(sorted(distinct))}
        keys.append(np.array([order[value] for value in values]))
    return table.take(pa.array(np.lexsort(keys[::-1]))) if keys else table
