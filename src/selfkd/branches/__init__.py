"""Modules that methods add to a backbone's stages for training."""

from selfkd.branches.exit_chains import DeployedExit, ExitChains
from selfkd.branches.exit_fusion import ExitFusion
from selfkd.branches.pooled_fusion import DirectBranches, PooledFusionBranches
from selfkd.branches.top_down_students import TopDownStudents

__all__ = ["DeployedExit", "DirectBranches", "ExitChains", "ExitFusion", "PooledFusionBranches", "TopDownStudents"]
