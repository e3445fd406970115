"""The shapes in the annotations are true: a fit and a photograph, with each of them checked at run time."""

import subprocess
import sys
from pathlib import Path

#: Type checking with the convention of Python's typing, that an int will do for a float.
CHECKER = """
from beartype import BeartypeConf, beartype
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""

SCRIPT = """
import sys
import tomllib
from pathlib import Path

import numpy as np
from jaxtyping import install_import_hook

# to the end: plugins are imported when they are needed
models = ["partfit_anny", "partfit_flame", "partfit_gnm", "partfit_mano", "partfit_mediapipe"]
learning = ["partfit_dad3dheads", "partfit_likelihoods", "partfit_spiralnet", "partfit_synthetic"]
install_import_hook(["partfit", "partfit_theseus", *models, *learning], "checker.check")

import torch

import partfit
from partfit.fitting import Backward, FitLayer, LevenbergMarquardt, Stage
from partfit.fitting.gradients import IMPLICIT
from partfit.geometry.decimation import decimation_series
from partfit.learning.training import train
from partfit.learning.training_config import TrainConfig
from partfit.gltf import write_rig
from partfit.meshes import Mesh
from partfit.model_files import read_model_file
from partfit.recipe import FitSettings
from partfit.rendering import visible_points
from partfit.results import overlay_image
from partfit.testing.official.flame import flame_content, write_companions, write_flame
from partfit.testing.official.mano import mano_entries, write_mano
from partfit.transfer import TransferSettings, transfer_landmarks
from partfit_dad3dheads.writing import write_dataset
from partfit.testing.synthetic import synthetic_embedding, synthetic_model, synthetic_problem

TRAINING = '''
losses = [{name = "vertex-edge"}, {name = "visibility"}]
run = {steps = 1, batch_size = 2}
data.train = {name = "synthetic", options = {size = 64, length = 2}}
data.val = {name = "synthetic", options = {size = 64, length = 2, seed = 1}}

[network]
resolution = 64
visibility = true
backbone.name = "resnet10t"
head.name = "spiral"
likelihood.name = "resll"
'''

model = synthetic_model()
problem, _ = synthetic_problem(model, synthetic_embedding(model, 60, 3), batch=3)
result = LevenbergMarquardt().fit(problem)
result.covariance(), result.unobservable(), result.projected()
problem.points.requires_grad_()
for fitter in (LevenbergMarquardt(), partfit.create("fitter", "theseus")):
    for backward in (IMPLICIT, Backward(hessian="gauss-newton"), Backward("truncated"), Backward("unrolled")):
        layer = FitLayer(problem.model, problem.embedding, problem.stages, fitter, backward)
        layer(problem.points, problem.scale, problem.camera).vertices().sum().backward()

portrait, hand = partfit.fit(sys.argv[1:], ["face", "hand"])
face = portrait[0]
overlay_image(portrait)
write_rig("rig.glb", face.model, face.result.x[0], face.camera)
settings = FitSettings((Stage(("hand_pose", "global_orient", "transl"), hidden_scale=2.0),))
partfit.fit(sys.argv[2], "hand", settings=settings)
visible_points(face.vertices, [Mesh(face.vertices, face.faces)])
dense = partfit.create("embedding", "anny-head/anny-face-dense")
decimation_series(dense.apply(face.vertices), dense.scheme.triangles, 2)

content = flame_content()
write_flame("flame.pkl", content.entries)
write_companions(".", content)
flame = partfit.create("model", "flame", path="flame.pkl", landmark_embedding="landmark_embedding.npy")
problem, _ = synthetic_problem(flame, flame.embedding("ibug68"), batch=2)
LevenbergMarquardt().fit(problem).projected()
write_mano(Path("MANO_RIGHT.pkl"), mano_entries())
mano = partfit.create("model", "mano", path=".", side="left")
face_pipeline = partfit.Pipeline()
transfer_landmarks(
    face.model, face_pipeline.detector, face_pipeline.landmarker, TransferSettings(renders=20, size=160)
)
state = torch.zeros(1, mano.n_parameters)
mano.landmarks(mano.embedding("hand21"), state).linearize(state).points
read_model_file("flame.pkl")

train(TrainConfig.of_layers([tomllib.loads(TRAINING)]), "run")
partfit.Pipeline(landmarker="checkpoint:run/model.safetensors")(sys.argv[1])
heads = partfit.create("dataset", "synthetic", size=64, length=2)
write_dataset(heads, "heads", "train")
np.save("face.npy", partfit.create("embedding", "anny-head/anny-face-dense").indices[:, 0])
partfit.create("dataset", "dad3dheads", root="heads", topology="anny-head", indices="face.npy")[0]
print("checked")
"""


def test_annotations_hold_at_run_time(tmp_path):
    (tmp_path / "checker.py").write_text(CHECKER)
    photo = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(photo), str(photo.with_name("hand.png"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "checked", done.stderr[-3000:]
