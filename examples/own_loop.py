"""DTSKD in a training loop of one's own: any network, any optimiser, any loader that also gives each sample's index.

python examples/own_loop.py [epochs]

After every epoch it saves its state into own_loop.pt. Stop it at any moment: started again in the same folder, it
continues from there and ends with the same weights.
"""

import sys
from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

import selfkd

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
torch.manual_seed(0)

# Any data set whose items are (image, label, index).
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
images = torch.nn.functional.interpolate(images, size=32)
labels = torch.tensor(digits.target)
train, test = train_test_split(torch.arange(len(labels)), train_size=200, stratify=labels, random_state=0)
loader = DataLoader(TensorDataset(images[train], labels[train], torch.arange(len(train))), batch_size=20, shuffle=True)

# Any network. timm's know their stages; for others name them, shallow to deep:
# selfkd.stage(network, stages=["layer1", "layer2", "layer3", "layer4"], input_size=32)
network = timm.create_model("resnet18", num_classes=10)
backbone = selfkd.stage(network, input_size=32)
data = selfkd.DatasetInfo(num_samples=len(train), num_classes=10)
method = selfkd.create_method("dtskd", backbone, data)
optimizer = torch.optim.SGD(method.parameter_groups(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True)

saved = Path("own_loop.pt")
if saved.exists():
    state = torch.load(saved, weights_only=True)
    method.load_training_state(state["method"])  # weights, predictions of the last epoch, epochs done
    optimizer.load_state_dict(state["optimizer"])

for epoch in range(method.epochs_done, epochs):
    torch.manual_seed(epoch)  # the order of an epoch's batches depends on nothing before it
    progress = selfkd.Progress(epoch, epochs)
    method.begin_epoch(progress)
    for batch_images, batch_labels, indices in loader:
        batch = selfkd.Batch(batch_images, batch_labels, indices)
        output = method(batch, progress)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(batch, output)
    method.end_epoch(progress)
    partial = saved.with_suffix(".partial")
    torch.save({"method": method.training_state(), "optimizer": optimizer.state_dict()}, partial)
    partial.replace(saved)  # in one step, so that a stop while it is written harms nothing
    print(f"epoch {epoch + 1} of {epochs}: loss {output.loss.item():.3f}", flush=True)

# The network is trained; the method can be thrown away.
network.eval()
with torch.no_grad():
    correct = (network(images[test]).argmax(1) == labels[test]).float().mean()
print(f"test accuracy {100 * correct.item():.1f} % on {len(test)} digits")
