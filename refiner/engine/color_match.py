"""Remove the color offset that a fill may have against its surroundings."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_RING = 16  # pixels around a hole in which prediction and photo are compared


def match_color(prediction: Tensor, image: Tensor, hole: Tensor) -> Tensor:
    """Shift a prediction's colors so that around each hole it has, on average, the photo's.

    Args:
        prediction: (N,3,H,W), of the whole picture.
        image: (N,3,H,W) in [0,1], the photo.
        hole: (N,1,H,W), bool.

    Returns:
        The prediction, in each hole less the mean difference on the known pixels within 16 px of it; in [0,1].
    """
    matched = prediction.clone()
    for index in range(hole.shape[0]):
        mask = hole[index, 0].cpu().numpy()
        labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            rows, columns = (slice(max(extent.start - _RING, 0), extent.stop + _RING) for extent in box)
            own = labels[rows, columns] == number
            near = ndimage.distance_transform_edt(~own) <= _RING
            ring = torch.from_numpy(near & ~mask[rows, columns]).to(image.device)
            if not ring.any():
                continue
            around = (slice(index, index + 1), slice(None), rows, columns)
            difference = (prediction[around] - image[around])[0, :, ring].mean(dim=1)  # (3,)
            where = torch.from_numpy(own).to(image.device)
            part = matched[index, :, rows, columns]
            part[:, where] = (part[:, where] - difference[:, None]).clamp(0, 1)
    return matched
