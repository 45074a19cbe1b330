"""The table is of the form that is read."""

from lorajax.mapping import toy_shares


def test_quantiles_rise_and_stand_at_every_distance():
    assert list(toy_shares.SHARES) == [1, 2, 3, 4, 6, 8, 16]
    for count, rows in toy_shares.SHARES.items():
        assert len(rows) == (1 if count < 3 else len(toy_shares.DISTANCES))
        for row in rows:
            assert len(row) == 10 and list(row) == sorted(row) and row[-1] <= 1.0
