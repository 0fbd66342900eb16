"""The pipeline of a preconditioned network: `export` puts a copy of this file beside the weights.

It needs diffusers alone:

    import torch
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
    images = pipeline(batch_size=16, generator=torch.Generator().manual_seed(0)).images

The scheduler scales what goes into the network and what comes out of it (Karras et al. 2022, arXiv
2206.00364); the network sees squares of `patch` pixels as one, and images whose sides do not
divide are padded by reflection, as in training.
"""

# mypy: disable-error-code="attr-defined"

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional

__all__ = ["FewlabelPipeline"]


class FewlabelPipeline(DiffusionPipeline):
    """Images of a score model that fewlabel trained.

    Args:
        unet: a UNet2DModel.
        scheduler: an EDM scheduler, such as EDMDPMSolverMultistepScheduler or EDMEulerScheduler.
        patch: side of the squares of pixels that the network sees as one.
        size: height and width of the images.
    """

    def __init__(self, unet: Any, scheduler: Any, patch: int = 1, size: Any = None) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(patch=patch, size=size)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        num_inference_steps: int = 24,
        generator: Any = None,
        output_type: str = "pil",
    ) -> Any:
        """Draw images: PIL, numpy (B, H, W, C) or, with "pt", tensors (B, C, H, W) in [0, 1]."""
        channels = self.unet.config.in_channels // self.config.patch**2
        shape = batch_size, channels, *self.config.size
        kind = {"device": self._execution_device, "dtype": self.unet.dtype}
        x = randn_tensor(shape, generator=generator, **kind)
        x = x * self.scheduler.config.sigma_max
        self.scheduler.set_timesteps(num_inference_steps, device=x.device)
        for t in self.progress_bar(self.scheduler.timesteps):
            output = self.predict(self.scheduler.scale_model_input(x, t), t)
            x = self.scheduler.step(output, t, x, generator=generator).prev_sample
        images = (x.float() / 2 + 0.5).clamp(0, 1).cpu()
        if output_type != "pt":
            images = images.permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(self.numpy_to_pil(images) if output_type == "pil" else images)

    def predict(self, u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network makes of scaled images u (B, C, H, W) at t = ¼ log σ."""
        height, width = u.shape[-2:]
        multiple = self.config.patch * 2 ** (len(self.unet.config.block_out_channels) - 1)
        padding = 0, -width % multiple, 0, -height % multiple
        u = functional.pixel_unshuffle(functional.pad(u, padding, "reflect"), self.config.patch)
        if self.unet.config.time_embedding_type == "fourier":
            sigma = torch.exp(4 * t)
            output = self.unet(u, sigma).sample * sigma
        else:
            output = self.unet(u, 1000 * t).sample
        return functional.pixel_shuffle(output, self.config.patch)[..., :height, :width]
