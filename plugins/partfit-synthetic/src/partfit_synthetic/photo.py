"""What a camera makes of the light: optics, sensor, colour, sharpening, sizes and compression.

Nothing here moves the picture's content: blurs are symmetric, and resizing keeps pixel centres where the
convention of the library has them (x' = (x + 0.5) s - 0.5).
"""

from __future__ import annotations

import io
import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter
from scipy.ndimage import convolve, gaussian_filter1d

from partfit.errors import ShapeError

Light = Float[np.ndarray, "height width 3"]
Pixels = UInt8[np.ndarray, "height width 3"]

#: Pixel sizes below are meant for a picture of this side; larger pictures get them enlarged.
REFERENCE_SIDE = 128
#: Weights of red, green and blue in brightness (ITU-R BT.709).
LUMA = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)

#: Colour of pictures of faces in white light, on average, linear RGB.
_SKIN = np.array([0.50, 0.262, 0.198])

# Curves of light are worked out in so many steps for a brightness of 1, up to one that is white in all of
# them: quicker than for each pixel.
_STEPS = 4095
_LIGHT = np.arange(round(1.25 * _STEPS), dtype=np.float32) / _STEPS
_SRGB = np.where(_LIGHT <= 0.0031308, 12.92 * _LIGHT, 1.055 * np.minimum(_LIGHT, 1) ** (1 / 2.4) - 0.055)


def photograph(light: Light, rng: np.random.Generator, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """A picture of a scene, as some camera, some program and some web site would hand it on.

    Args:
        light: (k side, k side, 3) linear RGB, k a whole number: k x k samples a pixel. Any brightness: the
            camera exposes for the middle of the picture.
        rng: Decides everything that is random.
        side: Side of the picture in pixels.

    Returns:
        (side, side, 3) sRGB, 8 bits.

    Raises:
        ShapeError: if `light` is not a square of a multiple of `side`.
    """
    light = _pixels_of(np.asarray(light, dtype=np.float32), side)
    light = optics(light, rng)
    light = exposed(light, rng)
    resolution = side if rng.random() < 0.45 else max(8, round(side * rng.uniform(0.38, 1.0)))
    light = resized_light(light, resolution)
    display = developed(light, rng)
    display = with_noise(display, rng)
    pixels = (np.clip(display, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.35:
        pixels = sharpened(pixels, rng.uniform(0.5, 1.2) * side / REFERENCE_SIDE, rng.uniform(0.2, 1.0))
    if rng.random() < 0.65:
        pixels = compressed(pixels, round(rng.uniform(35, 96)))
    pixels = resized(
        pixels, side, Image.Resampling.BICUBIC if rng.random() < 0.7 else Image.Resampling.BILINEAR
    )
    if rng.random() < 0.04:
        pixels = grey(pixels)
    if rng.random() < 0.2:
        pixels = compressed(pixels, round(rng.uniform(60, 96)))
    return pixels


def optics(light: Light, rng: np.random.Generator) -> Light:
    """Defocus, a moving camera, and corners darker than the middle."""
    unit = len(light) / REFERENCE_SIDE
    if rng.random() < 0.3:
        light = blurred(light, unit * rng.uniform(0.3, 1.5) ** 1.3)
    if rng.random() < 0.08:
        light = smeared(light, unit * rng.uniform(1.5, 5.0), rng.uniform(0, np.pi))
    if rng.random() < 0.3:
        light = light * _vignette(len(light), rng.uniform(0.05, 0.4), rng.normal(0, 0.15, 2))
    return light


def exposed(light: Light, rng: np.random.Generator) -> Light:
    """Brightness for the middle of the picture, and a white balance that is a little off."""
    height, width = light.shape[:2]
    middle = light[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4]
    mean = float((middle @ LUMA).mean())
    gain = (0.14 / max(mean, 1e-4)) ** rng.uniform(0.75, 1.0) * np.exp(rng.normal(0, 0.3))
    # a camera takes part of the light's colour back, as far as it can tell it from that of skin
    face = light[3 * height // 8 : 5 * height // 8, 3 * width // 8 : 5 * width // 8]
    usual = np.log(np.maximum(face.reshape(-1, 3).mean(axis=0), 1e-4) / _SKIN)
    corrected = rng.uniform(0.2, 0.65) * (usual.mean() - usual)
    warmth, tint = rng.normal(0.02, 0.04), rng.normal(0, 0.015)
    if rng.random() < 0.07:  # a tungsten lamp or a blue shade that nobody corrected
        warmth += rng.choice([0.35, -0.25]) * rng.uniform(0.5, 1.3)
    balance = gain * np.exp(corrected + np.array([warmth, tint, -warmth]))
    return light * balance.astype(np.float32)


def developed(light: Light, rng: np.random.Generator) -> Light:
    """Linear light to display values in [0, 1]: a shoulder, the sRGB curve, contrast, colours."""
    shoulder = rng.uniform(0.0, 1.0)
    rolled = (1 - np.exp(-1.25 * (1 + 0.3 * shoulder) * _LIGHT)) / (1 - math.exp(-1.25 * 1.3))
    curve = srgb((1 - shoulder) * _LIGHT + shoulder * rolled)
    contrast = rng.normal(0.02, 0.18)
    curve = curve + contrast * curve * (1 - curve) * (2 * curve - 1) * 2
    curve = np.clip(curve, 0, 1) ** math.exp(rng.normal(0, 0.10))
    display = _looked_up(curve, light)
    brightness = (display @ LUMA)[..., None]
    display = brightness + (display - brightness) * min(max(rng.normal(1.08, 0.14), 0.3), 1.5)
    if rng.random() < 0.15:  # haze, or a screen's grey black
        display = display * rng.uniform(0.82, 0.97) + rng.uniform(0.0, 0.06)
    return display


def with_noise(display: Light, rng: np.random.Generator) -> Light:
    """Sensor noise: more of it in the dark, some of it in colour, sometimes in grains of several pixels."""
    if rng.random() < 0.3:
        return display
    strength = 0.03 * rng.random() ** 3 + 0.002
    shape = display.shape
    noise: Light = rng.standard_normal(shape, dtype=np.float32)
    luma = rng.standard_normal(shape[:2], dtype=np.float32)[..., None]
    colour = rng.uniform(0, 0.8)
    noise = noise * np.float32(colour) + luma * np.float32(1 - colour)
    if rng.random() < 0.3:
        noise = blurred(noise, 0.6) * np.float32(2.0)
    return display + strength * noise * (1.3 - 0.7 * np.clip(display, 0, 1))


def srgb(light: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Display values of linear light, both in [0, 1]; clips."""
    return _looked_up(_SRGB, light)


def _looked_up(
    curve: Float[np.ndarray, " steps"], light: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """The values of a curve over `_LIGHT`."""
    return curve.take(
        np.clip(light * np.float32(_STEPS) + np.float32(0.5), 0, len(curve) - 1).astype(np.int32)
    )


def blurred(light: Light, sigma: float) -> Light:
    """Gaussian blur, sigma in pixels."""
    for axis in (0, 1):
        light = gaussian_filter1d(light, sigma, axis=axis, mode="nearest", truncate=3.0)
    return light


def smeared(light: Light, length: float, angle: float) -> Light:
    """Motion blur along a line, `length` in pixels."""
    kernel = _line_kernel(length, angle)
    return np.stack([convolve(light[..., c], kernel, mode="nearest") for c in range(3)], axis=-1)


def resized_light(light: Light, side: int) -> Float[np.ndarray, "side side 3"]:
    """Linear light at another resolution, each new pixel an average.

    Pillow's BOX takes whole pixels, which would move the content by parts of one.
    """
    if len(light) == side:
        return light
    channels = [
        Image.fromarray(np.ascontiguousarray(light[..., c])).resize((side, side), Image.Resampling.BILINEAR)
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def resized(pixels: Pixels, side: int, resample: Image.Resampling) -> UInt8[np.ndarray, "side side 3"]:
    """A picture at another resolution."""
    if len(pixels) == side:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((side, side), resample))


def sharpened(pixels: Pixels, radius: float, amount: float) -> Pixels:
    """Unsharp masking."""
    mask = ImageFilter.UnsharpMask(radius=radius, percent=round(100 * amount), threshold=0)
    return np.asarray(Image.fromarray(pixels).filter(mask))


def compressed(pixels: Pixels, quality: int) -> Pixels:
    """A picture after JPEG compression."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def grey(pixels: Pixels) -> Pixels:
    """A picture without colours, still of three channels."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def _pixels_of(light: np.ndarray, side: int) -> Float[np.ndarray, "side side 3"]:
    """The mean of the samples of each pixel."""
    samples = light.shape[0] // side if light.ndim == 3 else 0
    if samples < 1 or light.shape != (samples * side, samples * side, 3):
        raise ShapeError("light", f"(k * {side}, k * {side}, 3)", light.shape)
    if samples == 1:
        return light
    total = np.zeros((side, side, 3), dtype=np.float32)
    for row in range(samples):
        for column in range(samples):
            total += light[row::samples, column::samples]
    return total / np.float32(samples**2)


def _vignette(side: int, strength: float, centre: np.ndarray) -> Float[np.ndarray, "side side 1"]:
    along = np.linspace(-1, 1, side, dtype=np.float32)
    squares = (along[None, :] - centre[0]) ** 2 + (along[:, None] - centre[1]) ** 2
    return (1 / (1 + strength * squares) ** 2)[..., None].astype(np.float32)


def _line_kernel(length: float, angle: float) -> Float[np.ndarray, "size size"]:
    """Weights of pixels along a line through the middle: symmetric, their sum is 1."""
    reach = int(np.ceil(length / 2)) + 1
    along = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    offsets = np.arange(-reach, reach + 1)
    wide = np.maximum(1 - np.abs(offsets[:, None] - along * np.cos(angle)), 0)
    high = np.maximum(1 - np.abs(offsets[:, None] - along * np.sin(angle)), 0)
    kernel = high @ wide.T
    return (kernel / kernel.sum()).astype(np.float32)
