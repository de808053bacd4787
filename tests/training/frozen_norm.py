"""Every method, by its name, with batch normalisation frozen, so that two processes compute what one computes."""

from torch import nn

from selfkd.methods import METHODS


class _Frozen:
    def begin_epoch(self, progress):
        super().begin_epoch(progress)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _frozen(name):
    method = METHODS.load(name)
    return type(name, (_Frozen, method), {"__module__": __name__, "__doc__": method.__doc__})


globals().update({name: _frozen(name) for name in METHODS})
