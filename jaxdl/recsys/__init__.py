"""Recommender systems (D2L 21): how good a ranking of items is for each user.

Scores of candidates are compared with what a user did next: `hit_at_k` and its mean `hit_rate` look at the top of the
list, `auc` at all of it. Equal scores count as ranked at random.
"""

from jaxdl.recsys.ranking import auc, hit_at_k, hit_rate

__all__ = ["auc", "hit_at_k", "hit_rate"]
