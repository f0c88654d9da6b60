"""What a blackboard is told of distribution runs: bundled, registered (see `server.run_posts`)."""

from server.distribution.queue import WANTING
from server.run_posts import Runs

RUNS = Runs(
    "dist",
    "distRun",
    "dist_id",
    ("BN", "RG"),
    f"""SELECT r.dist_id AS run_id,
    'dist.' || r.dist_id || '.' || r.stage || '.' || r.stage_id AS dataset,
    CASE WHEN r.state = 'full' THEN 'c'
        WHEN r.fault <> 0 OR EXISTS (
            SELECT 1 FROM distComponent c
            WHERE c.dist_id = r.dist_id AND c.state = 'new' AND c.fault <> 0) THEN 'x'
        ELSE 'w' END ||
    CASE WHEN EXISTS (
            SELECT 1 FROM rcDSFileset f
            WHERE f.dist_id = r.dist_id AND f.state <> 'full' AND f.fault <> 0) THEN 'x'
        WHEN r.state = 'full' AND EXISTS (
            SELECT 1 FROM rcDSFileset f WHERE f.dist_id = r.dist_id AND f.state = 'full')
            AND NOT EXISTS (SELECT 1 FROM {WANTING}) THEN 'c'
        ELSE 'w' END AS letters
    FROM distRun r""",
)
"""BN: bundles and documents are there. RG: so are the filesets of all who are interested, of one
at least."""
