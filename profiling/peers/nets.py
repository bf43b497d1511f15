"""The project's networks in PyTorch (host/net/networks.cpp), with parameters of the same names and shapes.

LRN is b = a / (k + alpha * sum a^2)^beta with k = 2, n = 5, alpha = 1e-4, beta = 0.75. PyTorch divides
alpha by n, so it is given n * alpha.
"""
import torch
from torch import nn

INPUT = {"alexnet": 227, "alexnet2012": 227, "owt": 224, "cifar": 24, "mini": 67}


class Net(nn.Module):
    """Layers by name in self.order, run in that order; `flatten` before the first fully connected one is (C, H, W)."""

    def __init__(self, layers):
        super().__init__()
        self.order = [name for name, _ in layers]
        for name, layer in layers:
            self.add_module(name, layer)

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


def _lrn():
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def _pool():
    return nn.MaxPool2d(3, 2)


def _krizhevsky(c, fc, pooled, groups, classes, p):
    """conv, ReLU, LRN, pool: the order of the 2012 paper."""
    return [
        ("conv1", nn.Conv2d(3, c[0], 11, stride=4)), ("relu1", nn.ReLU()), ("norm1", _lrn()), ("pool1", _pool()),
        ("conv2", nn.Conv2d(c[0], c[1], 5, padding=2, groups=groups)), ("relu2", nn.ReLU()), ("norm2", _lrn()),
        ("pool2", _pool()),
        ("conv3", nn.Conv2d(c[1], c[2], 3, padding=1)), ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(c[2], c[3], 3, padding=1, groups=groups)), ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(c[3], c[4], 3, padding=1, groups=groups)), ("relu5", nn.ReLU()), ("pool5", _pool()),
        ("flatten", nn.Flatten()),
        ("fc6", nn.Linear(c[4] * pooled * pooled, fc)), ("relu6", nn.ReLU()), ("drop6", nn.Dropout(p)),
        ("fc7", nn.Linear(fc, fc)), ("relu7", nn.ReLU()), ("drop7", nn.Dropout(p)),
        ("fc8", nn.Linear(fc, classes)),
    ]


def _owt(classes, p):
    """As torchvision.models.alexnet: no LRN, dropout before fc6 and fc7."""
    return [
        ("conv1", nn.Conv2d(3, 64, 11, stride=4, padding=2)), ("relu1", nn.ReLU()), ("pool1", _pool()),
        ("conv2", nn.Conv2d(64, 192, 5, padding=2)), ("relu2", nn.ReLU()), ("pool2", _pool()),
        ("conv3", nn.Conv2d(192, 384, 3, padding=1)), ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(384, 256, 3, padding=1)), ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(256, 256, 3, padding=1)), ("relu5", nn.ReLU()), ("pool5", _pool()),
        ("flatten", nn.Flatten()),
        ("drop6", nn.Dropout(p)), ("fc6", nn.Linear(256 * 6 * 6, 4096)), ("relu6", nn.ReLU()),
        ("drop7", nn.Dropout(p)), ("fc7", nn.Linear(4096, 4096)), ("relu7", nn.ReLU()),
        ("fc8", nn.Linear(4096, classes)),
    ]


def _cifar(classes):
    """After cuda-convnet's: LRN behind the first pooling and before the second."""
    return [
        ("conv1", nn.Conv2d(3, 64, 5, padding=2)), ("relu1", nn.ReLU()), ("pool1", _pool()), ("norm1", _lrn()),
        ("conv2", nn.Conv2d(64, 64, 5, padding=2)), ("relu2", nn.ReLU()), ("norm2", _lrn()), ("pool2", _pool()),
        ("conv3", nn.Conv2d(64, 64, 3, padding=1)), ("relu3", nn.ReLU()), ("pool3", _pool()),
        ("flatten", nn.Flatten()),
        ("fc4", nn.Linear(64 * 2 * 2, classes)),
    ]


def make(name, classes=1000, dropout=0.5):
    if name == "alexnet":
        return Net(_krizhevsky((96, 256, 384, 384, 256), 4096, 6, 1, classes, dropout))
    if name == "alexnet2012":
        return Net(_krizhevsky((96, 256, 384, 384, 256), 4096, 6, 2, classes, dropout))
    if name == "mini":
        return Net(_krizhevsky((48, 128, 192, 192, 128), 1024, 1, 1, classes, dropout))
    if name == "owt":
        return Net(_owt(classes, dropout))
    if name == "cifar":
        return Net(_cifar(classes))
    raise SystemExit(f"unknown net '{name}': must be one of {', '.join(INPUT)}")


def parameters(net):
    return sum(p.numel() for p in net.parameters())


if __name__ == "__main__":
    wanted = {"alexnet": 62378344, "alexnet2012": 60965224, "owt": 61100840, "cifar": 146826, "mini": 2137802}
    for n, want in wanted.items():
        have = parameters(make(n, 1000 if want > 10 ** 7 else 10))
        x = make(n, 10)(torch.zeros(1, 3, INPUT[n], INPUT[n]))
        print(f"{n}: {have} parameters, {'as' if have == want else 'NOT as'} the project's")
        assert have == want and x.shape == (1, 10)
