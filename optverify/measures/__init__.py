"""How far is it safe: radii of robustness and safe boxes, as brackets of a proof and an exact counterexample."""
