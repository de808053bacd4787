"""Modules that methods hang on a backbone's stages while it trains."""

from selfkd.branches.exit_chains import DeployedExit, ExitChains
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.pooled_fusion import PooledFusionBranches

__all__ = ["DeployedExit", "ExitChains", "ExitFusion", "PooledFusionBranches"]
