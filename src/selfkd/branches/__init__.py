"""Modules that methods hang on a backbone's stages while it trains."""

from selfkd.branches.pooled_fusion import PooledFusionBranches

__all__ = ["PooledFusionBranches"]
