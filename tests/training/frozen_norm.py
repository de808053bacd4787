"""Methods whose batch normalisation is frozen, so that two processes compute what one computes."""

from torch import nn

from selfkd.methods.dml import DML
from selfkd.methods.dtskd import DTSKD
from selfkd.methods.kd import KD
from selfkd.methods.loth import LOTH
from selfkd.methods.plain import Plain
from selfkd.methods.ps_kd import PSKD
from selfkd.methods.teskd import TESKD


class _Frozen:
    def begin_epoch(self, progress):
        super().begin_epoch(progress)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class FrozenPlain(_Frozen, Plain):
    """Plain training."""


class FrozenPSKD(_Frozen, PSKD):
    """PS-KD."""


class FrozenDTSKD(_Frozen, DTSKD):
    """DTSKD."""


class FrozenLOTH(_Frozen, LOTH):
    """LOTH."""


class FrozenKD(_Frozen, KD):
    """KD."""


class FrozenDML(_Frozen, DML):
    """DML."""


class FrozenTESKD(_Frozen, TESKD):
    """TESKD."""
