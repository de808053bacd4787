"""Modules that methods hang on a backbone's stages while it trains."""

from selfkd.branches.pooled_fusion import DirectBranches, PooledFusionBranches
from selfkd.branches.top_down_students import TopDownStudents

__all__ = ["DirectBranches", "PooledFusionBranches", "TopDownStudents"]
