import numpy as np

from alhelpers import records
from alhelpers.learners import Predictions


def test_samples_of_members_and_passes_become_both_fields_of_records():
    samples = np.random.default_rng(0).dirichlet(np.ones(3), (5, 2, 4)).astype(np.float32)
    both = Predictions(samples.mean((1, 2)), samples=samples, class_names=("a", "b", "c"))
    table = both.to_records(list("vwxyz"))
    np.testing.assert_array_equal(records.column(table, "mc_dropout"), samples.reshape(5, 8, 3))
    np.testing.assert_allclose(records.column(table, "query_by_committee"), samples.mean(2), rtol=1e-6)
    members = Predictions(samples=samples.mean(2), sampled_by="query_by_committee")
    assert members.to_records(range(5)).column_names == ["id", "query_by_committee"]
    assert len(members) == 5 and len(Predictions()) == 0
