#!/usr/bin/env python3
"""Writes the checkpoints of this folder with a real PyTorch, and expected.json: what is in them.

Made with Debian's python3-torch 1.13.1. Usage: make_torch_files.py FOLDER
For each file either the tensors (name, shape, dtype, CRC-32 of the row-major bytes) or the id of the
error that quern must give.
"""
import collections, json, os, sys, zlib
import torch

OUT = sys.argv[1]
EXPECTED = {}


def raw(tensor):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    return tensor.numpy().tobytes()


def save(name, obj, tensors=None, error=None, **options):
    torch.save(obj, os.path.join(OUT, name), **options)
    if error:
        EXPECTED[name] = {"error": error}
        return
    EXPECTED[name] = {"tensors": [
        {"name": key, "shape": list(t.shape), "dtype": str(t.dtype)[len("torch."):],
         "crc32": zlib.crc32(raw(t))} for key, t in tensors.items()]}


torch.manual_seed(1)
base = {
    "f32": torch.randn(3, 5), "f64": torch.randn(2, 2, dtype=torch.float64),
    "f16": torch.randn(4, 3).half(), "bf16": torch.randn(4, 3).bfloat16(),
    "i64": torch.arange(6).view(2, 3), "i32": torch.arange(4, dtype=torch.int32),
    "i16": torch.arange(4, dtype=torch.int16), "i8": torch.arange(4, dtype=torch.int8),
    "u8": torch.arange(4, dtype=torch.uint8), "bool": torch.tensor([True, False]),
    "c64": torch.randn(2, dtype=torch.complex64), "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3), "rank6": torch.randn(1, 2, 1, 3, 2, 1),
}
save("types.pth", base, base)
big = torch.randn(8, 6)
views = {
    "whole": big, "again": big, "transposed": big.t(), "rows": big[2:5], "columns": big[:, 1:4],
    "every_other": big[::2, ::3], "expanded": big[0:1].expand(4, 6), "element": big[3, 3],
    "permuted": torch.randn(2, 3, 4).permute(2, 0, 1), "column": big[:, 2],
    "flat": big.view(-1), "wide": big.view(2, 4, 6).transpose(0, 1),
}
save("views.pth", views, views)
for protocol in (3, 4, 5):
    save("protocol%d.pth" % protocol, {"model": base}, base, pickle_protocol=protocol)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))
save("module_state.pth", model.state_dict(), model.state_dict())
save("parameters.pth", dict(model.named_parameters()), dict(model.named_parameters()))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
model(torch.randn(5, 4)).sum().backward()
optimizer.step()
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
compiled = collections.OrderedDict(("_orig_mod." + k, v) for k, v in model.state_dict().items())
save("training.pth", {
    "model": compiled, "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
    "config": {"lr": 1e-3, "betas": (0.9, 0.95), "name": "x", "none": None, "list": [1, [2.5, {}]]},
    "best_loss": torch.tensor(1.25), "iter_num": 70000, "big": 2 ** 70, "set": {1, 2},
    "dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1, 2]),
    "rng": torch.get_rng_state(), "bytes": b"abc", "complex": 1j, "sparse": torch.eye(2).to_sparse(),
}, model.state_dict())
ddp = {"module." + k: v for k, v in model.state_dict().items()}
save("ddp.pth", {"state_dict": ddp, "epoch": 3}, model.state_dict())
shared = {"tok_embeddings.weight": big, "output.weight": big}
save("tied.pth", {"model." + k: v for k, v in shared.items()}, shared)
save("legacy.pth", base, error="torch.legacy-format", _use_new_zipfile_serialization=False)
save("whole_module.pth", model, error="pickle.global")
save("sparse.pth", {"w": torch.eye(3).to_sparse()}, error="torch.unsupported-tensor")
save("quantized.pth", {"w": torch.quantize_per_tensor(torch.randn(2, 2), 0.1, 0, torch.qint8)},
     error="torch.unsupported-tensor")
save("list.pth", [big], error="torch.root")
torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), os.path.join(OUT, "script.pth"))
EXPECTED["script.pth"] = {"error": "torch.torchscript"}
with open(os.path.join(OUT, "expected.json"), "w") as f:
    json.dump(EXPECTED, f, indent=1)
    f.write("\n")
