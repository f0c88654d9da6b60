"""What a blackboard is told of publish runs: published or not (see `server.run_posts`)."""

from server.run_posts import Runs

RUNS = Runs(
    "pub",
    "publishRun",
    "pub_id",
    ("PB",),
    # As `server.publishing.inputs.fileset_name` has it.
    """SELECT p.pub_id AS run_id,
    'pub.' || p.pub_id || '.' || c.stage || '.' || p.stage_id AS dataset,
    CASE WHEN p.state = 'full' AND d.fault = 0 THEN 'c'
        WHEN p.state = 'full' OR d.fault <> 0 THEN 'x'
        ELSE 'w' END AS letters
    FROM publishRun p JOIN publishClient c ON c.client_id = p.client_id
    LEFT JOIN publishDone d ON d.pub_id = p.pub_id""",
)
"""PB: the fileset is registered; trouble where the attempt failed, and where a run was given up."""
