/* Where the nodes of a graph stand in its drawing: layers from the top down, as the graph goes. No DOM here. */

const END = "__end__"; // as LangGraph calls it
const WIDE = 150;
const HIGH = 34;
const BESIDE = 22; // pixels between the nodes of a layer
const BELOW = 38; // pixels between layers: room for the edges
const SWEEPS = 4; // of ordering the layers by their neighbours; more change little in graphs that people can read
const LANE = 14; // pixels beside the nodes for each edge that skips layers or leads back
const ASIDE = 45; // pixels from the middle of a node, where such an edge begins and ends

/** Edges that lead back to where the walk from the start came through: the loops. */
function loops(nodes, edges) {
  const back = new Set();
  const state = new Map(); // 1: on the way, 2: left behind
  const leaving = Map.groupBy(edges, ({ source }) => source);
  for (const root of nodes) {
    const way = state.has(root) ? [] : [{ node: root, rest: [...(leaving.get(root) ?? [])] }];
    if (way.length) state.set(root, 1);
    while (way.length) {
      const { node, rest } = way[way.length - 1];
      const edge = rest.shift();
      if (!edge) {
        state.set(node, 2);
        way.pop();
      } else if (state.get(edge.target) === 1) {
        back.add(edge);
      } else if (!state.has(edge.target)) {
        state.set(edge.target, 1);
        way.push({ node: edge.target, rest: [...(leaving.get(edge.target) ?? [])] });
      }
    }
  }
  return back;
}

/** The layer of each node: one below the lowest of those that lead to it; the end below all. */
function ranks(nodes, forward) {
  const rank = new Map(nodes.map((node) => [node, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const { source, target } of forward) {
      if (rank.get(target) > rank.get(source)) continue;
      rank.set(target, rank.get(source) + 1);
      moved = true;
    }
    if (!moved) break;
  }
  if (rank.has(END)) rank.set(END, Math.max(0, ...nodes.filter((node) => node !== END).map((node) => rank.get(node))) + 1);
  return rank;
}

function ordered(layers, edges) {
  const place = new Map(layers.flatMap((layer) => layer.map((node, at) => [node, at - (layer.length - 1) / 2])));
  const middle = (node) => {
    const near = edges.filter(({ source, target }) => source === node || target === node).map(({ source, target }) => place.get(source === node ? target : source));
    return near.length ? near.reduce((sum, each) => sum + each, 0) / near.length : place.get(node);
  };
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const layer of layers) {
      const wanted = new Map(layer.map((node) => [node, middle(node)]));
      layer.sort((one, other) => wanted.get(one) - wanted.get(other));
      for (const [at, node] of layer.entries()) place.set(node, at - (layer.length - 1) / 2);
    }
  }
  return layers;
}

/**
 * @param nodes ids, the start first; @param edges `{source, target, conditional}`
 * @returns `{width, height, boxes: [{id, x, y, w, h}], lines: [{source, target, conditional, d}]}`, in pixels; `d` is a path of SVG.
 */
export function layOut(nodes, edges) {
  const known = new Set(nodes);
  const real = edges.filter(({ source, target }) => known.has(source) && known.has(target));
  const back = loops(nodes, real);
  const forward = real.filter((edge) => !back.has(edge));
  const rank = ranks(nodes, forward);
  const layers = ordered([...Map.groupBy(nodes, (node) => rank.get(node))].sort(([one], [other]) => one - other).map(([, layer]) => layer), forward);
  const widest = Math.max(...layers.map((layer) => layer.length));
  const inner = widest * WIDE + (widest - 1) * BESIDE;
  const skips = new Set(forward.filter(({ source, target }) => rank.get(target) - rank.get(source) > 1));
  const left = (skips.size + 1) * LANE;
  const boxes = layers.flatMap((layer, row) => layer.map((id, at) => ({
    id, w: WIDE, h: HIGH, y: BELOW + row * (HIGH + BELOW), x: left + inner / 2 + (at - (layer.length - 1) / 2) * (WIDE + BESIDE) - WIDE / 2,
  })));
  const box = new Map(boxes.map((each) => [each.id, each]));
  const lane = (those, edge) => ([...those].indexOf(edge) + 1) * LANE;
  const way = (edge) => {
    if (skips.has(edge)) return around(box.get(edge.source), box.get(edge.target), left - lane(skips, edge), -ASIDE);
    if (back.has(edge)) return around(box.get(edge.source), box.get(edge.target), left + inner + lane(back, edge), ASIDE);
    return down(box.get(edge.source), box.get(edge.target));
  };
  const lines = real.map((edge) => ({ ...edge, d: way(edge) }));
  return { width: left + inner + (back.size + 1) * LANE, height: BELOW + layers.length * (HIGH + BELOW), boxes, lines };
}

/** From a layer to the next. */
function down(from, to) {
  const [x1, x2, y1, y2] = [from.x + from.w / 2, to.x + to.w / 2, from.y + from.h, to.y];
  return `M${x1} ${y1}C${x1} ${y1 + BELOW / 2} ${x2} ${y2 - BELOW / 2} ${x2} ${y2 - 1}`;
}

/** From below a node by a lane at the side to above another one: it passes between the layers, and so behind no node. */
function around(from, to, lane, aside) {
  const [x1, x2, y1, y2] = [from.x + from.w / 2 + aside, to.x + to.w / 2 + aside, from.y + from.h, to.y];
  const between = BELOW / 3; // the rest of the way is the arrow's
  return `M${x1} ${y1}V${y1 + between}H${lane}V${y2 - 2 * between}H${x2}V${y2 - 1}`;
}
