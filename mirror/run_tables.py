"""Runs of the pipeline as tables: what an exported run (a dbinfo) becomes in SQL.

The tables are named and typed as in the document (PROTOCOL section 3); two more of ours say which
tables belong to a kind of run, and which type each column had, so that a run can be exported as
it came.
"""

SCHEMA = """
CREATE TABLE runTable (
    run_table TEXT NOT NULL,
    table_name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (run_table, table_name)
);
CREATE TABLE runColumn (
    table_name TEXT NOT NULL,
    column_name TEXT NOT NULL,
    type TEXT NOT NULL,
    position INTEGER NOT NULL,
    is_key INTEGER NOT NULL,
    PRIMARY KEY (table_name, column_name)
)
"""
"""`run_table`: the table that names the kind of run (chipRun); `table_name`: one of its tables, in
the order of the documents. `type`: as the document has it (S32, STR, …); `is_key`: the column is
part of the table's key."""
