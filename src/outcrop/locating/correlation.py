"""Normalised cross-correlation of patches with the windows of small regions or of whole pictures.

After Lewis 1995, "Fast Template Matching", Vision Interface 95, 120-123, eq. 2: the mean of the
window under the patch is taken away, not that of the region, so that the coefficient is the
correlation of Pearson, from -1 to 1, whatever the gain (above 0) and offset of either. The sums
over windows come from those of their neighbours, as in section 5 there.
"""

from __future__ import annotations

import numpy as np

from outcrop.locating.comparison import one_over_length


def standardise(images: np.ndarray) -> np.ndarray:
    """Pictures of mean 0 and sum of squares 1 in each band; zero where a band is flat.

    Args:
        images: `N × bands × height × width`, finite.

    Returns:
        float32.
    """
    mean = images.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
    centred = (images - mean.astype(np.float32)).astype(np.float32, copy=False)
    length = np.sqrt(np.square(centred).sum(axis=(2, 3), keepdims=True, dtype=np.float64))
    # What a flat picture differs by from its mean is rounding alone.
    deviation = length / np.sqrt(images.shape[2] * images.shape[3])
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.where(flat, 0, centred / np.where(flat, 1, length)).astype(np.float32)


class Slice:
    """A picture whose every window is correlated with patches, by fast Fourier transforms.

    Args:
        pixels: float32, `bands × height × width`, finite.
        size: height and width of the patches, in pixels.
    """

    def __init__(self, pixels: np.ndarray, size: tuple[int, int]) -> None:
        from scipy.fft import rfft2

        self._shape = pixels.shape[1], pixels.shape[2]
        centred = pixels - pixels.mean(axis=(1, 2), keepdims=True)
        self._waves = rfft2(centred)
        exact = centred.astype(np.float64)[None, None]
        self._scale = one_over_length(exact, *size)[0, 0].astype(np.float32)

    def correlate(self, waves: np.ndarray) -> np.ndarray:
        """The coefficient for every window, the mean over bands.

        Args:
            waves: `P × bands × …`, of patches, as `spectra` makes them for this size of picture.

        Returns:
            float32, `P × rows × columns`; 0 where a window is flat. Good to five digits.
        """
        from scipy.fft import irfft2

        products = irfft2(self._waves * waves, s=self._shape)
        _, rows, columns = self._scale.shape
        return np.asarray((products[..., :rows, :columns] * self._scale).mean(axis=1))


def spectra(patches: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What `Slice.correlate` wants of patches, for pictures of a shape.

    Args:
        patches: float32, `P × bands × height × width`, standardised.
    """
    from scipy.fft import rfft2

    return np.conj(rfft2(patches, s=shape))
