"""Words that every room uses: instants, ids, money, figures, limits, errors. Imports nothing of ours."""
