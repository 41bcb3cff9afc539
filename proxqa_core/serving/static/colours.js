// Viridis at five places, nearest first, as in proxqa_core/vision/drawing.py: yellow is near, violet far.

const VIRIDIS = [[253, 231, 37], [94, 201, 98], [33, 145, 140], [59, 82, 139], [68, 1, 84]];

function mixed(depth) {
  const place = Math.min(1, Math.max(0, depth)) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[low].map((v, i) => Math.round(v + (place - low) * (VIRIDIS[low + 1][i] - v)));
}

export function colourOf(depth) {
  return `rgb(${mixed(depth).join(",")})`;
}

// Black or white, whichever has more contrast to the colour of a depth, by WCAG 2's relative luminance.
export function inkOn(depth) {
  const [r, g, b] = mixed(depth).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}
