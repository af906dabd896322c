"""Reads tables of `blocksd` with programs that are independent of this project, and prints a JSON line for each row.

    table_peer.py duckdb FILE    Parquet or CSV, by DuckDB
    table_peer.py pyarrow FILE [EVERY]   Parquet, by Apache Arrow; before the rows, the types of the columns and the row
                                 groups; with EVERY, every so many rows of each group
    table_peer.py pandas FILE    CSV, by pandas

Times are nanoseconds since 1970, and numbers that JSON lacks are text.
"""

import json
import math
import sys


def plain(value):
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def show(names, row):
    print(json.dumps({name: plain(value) for name, value in zip(names, row)}))


def duckdb(path):
    import duckdb

    table = duckdb.sql(f"from '{path}'")
    columns = [
        f'epoch_ns("{name}") as "{name}"' if str(kind).startswith("TIMESTAMP") else '"' + name.replace('"', '""') + '"'
        for name, kind in zip(table.columns, table.types)
    ]
    rows = table.project(", ".join(columns))
    for row in rows.fetchall():
        show(table.columns, row)


def pyarrow(path, every=1):
    import pyarrow
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(path)
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    print(json.dumps({"types": kinds, "groups": file.num_row_groups, "rows": file.metadata.num_rows}))
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        for at, field in enumerate(table.schema):
            if pyarrow.types.is_timestamp(field.type):
                table = table.set_column(at, field.name, table.column(at).cast(pyarrow.int64()))
        table = table.take(list(range(0, table.num_rows, int(every))))
        columns = [table.column(at).to_pylist() for at in range(table.num_columns)]
        for row in zip(*columns):
            show(table.column_names, row)


def pandas(path):
    import pandas

    frame = pandas.read_csv(path, parse_dates=["time"], dtype={"device": str})
    frame["time"] = frame["time"].astype("int64")
    for row in frame.astype(object).itertuples(index=False, name=None):
        show(frame.columns, [None if value != value else value for value in row])


{"duckdb": duckdb, "pyarrow": pyarrow, "pandas": pandas}[sys.argv[1]](*sys.argv[2:])
