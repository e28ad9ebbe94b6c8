#include "kernels/f32_spconv_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#if defined(__linux__)
#include <unistd.h>
#endif

namespace taco4j::f32_spconv {
namespace {

// Offsets are 16 bits.
constexpr std::int64_t kMostPanelFloats = 1 << 16;
constexpr int kMostTaps = 1 << 14;
// Fewer tiles than this in a call are cut by rows too.
constexpr int kFewTiles = 8;
// Blocks may hold this share of zeros.
constexpr double kZerosInBlocks = 0.05;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return divide_up(a, b) * b; }
std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a >= 0 ? a / b : -divide_up(-a, b);
}

constexpr std::int64_t kFloatBytes = 4;
// Zero weights fill up the groups of tiles with so few sums; with more, each costs more than it
// saves.
constexpr int kMostSumsForZeros = 7;
// How many first-level caches a panel may fill: larger ones are fewer, smaller ones faster.
constexpr double kCaches[] = {0.6, 0.8, 1, 1.4, 2, 3, 4};

// Bytes of the first-level data cache.
std::int64_t cache_bytes() {
  long size = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  size = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
  if (size < (16 << 10)) size = 32 << 10;
  return std::min<std::int64_t>(size, 128 << 10);
}

// A convolution as the tiling sees it: a 1 x 1 kernel over pixels in any order is over one row.
struct Geometry {
  std::int64_t height, width, output_height, output_width;
  std::int64_t stride_y, stride_x;
  // For each tap: the phase and the step at which it reads, for row and column 0 of the output.
  struct Place {
    int phase_y, phase_x, row, column;
  };
  std::vector<Place> taps;
  int first_row, last_row, first_column, last_column;  // over taps
};

Geometry geometry_of(const ConvShape& shape, std::int64_t height, std::int64_t width) {
  Geometry g;
  g.height = height;
  g.width = width;
  g.output_height = shape.output_height(height);
  g.output_width = shape.output_width(width);
  g.stride_y = shape.stride_height;
  g.stride_x = shape.stride_width;
  const bool pointwise = shape.kernel_height == 1 && shape.kernel_width == 1 &&
                         g.stride_y == 1 && g.stride_x == 1 && shape.pad_top == 0 &&
                         shape.pad_left == 0 && shape.pad_bottom == 0 && shape.pad_right == 0;
  if (pointwise) {
    g.width = g.output_width = height * width;
    g.height = g.output_height = 1;
  }
  for (std::int64_t y = 0; y < shape.kernel_height; ++y) {
    for (std::int64_t x = 0; x < shape.kernel_width; ++x) {
      const std::int64_t from_y = y * shape.dilation_height - shape.pad_top;
      const std::int64_t from_x = x * shape.dilation_width - shape.pad_left;
      const std::int64_t row = floor_divide(from_y, g.stride_y);
      const std::int64_t column = floor_divide(from_x, g.stride_x);
      g.taps.push_back({static_cast<int>(from_y - row * g.stride_y),
                        static_cast<int>(from_x - column * g.stride_x), static_cast<int>(row),
                        static_cast<int>(column)});
    }
  }
  const auto by_row = [](const auto& a, const auto& b) { return a.row < b.row; };
  const auto by_column = [](const auto& a, const auto& b) { return a.column < b.column; };
  const auto rows = std::minmax_element(g.taps.begin(), g.taps.end(), by_row);
  const auto columns = std::minmax_element(g.taps.begin(), g.taps.end(), by_column);
  g.first_row = rows.first->row;
  g.last_row = rows.second->row;
  g.first_column = columns.first->column;
  g.last_column = columns.second->column;
  return g;
}

// A tiling of tile_rows x tile_columns, or nothing where it does not fit. `shifted`: taps of
// different columns share their pixels, and sums are shifted; else each has a copy of its own.
// `caches`: how many first-level caches a panel may fill.
std::optional<Tiling> tiling_of(const Geometry& g, const KeptWeights& kept,
                                const ConvShape& shape, const Target& target, int tile_rows,
                                std::int64_t tile_columns, bool shifted, double caches) {
  const int lanes = target.lanes;
  const Costs& costs = target.costs;
  const int span_x = g.last_column - g.first_column;
  const int span_y = g.last_row - g.first_row;
  const bool whole_rows = tile_columns == g.output_width;

  Tiling t{};
  t.height = g.height;
  t.width = g.width;
  t.output_height = g.output_height;
  t.output_width = g.output_width;
  t.tile_rows = tile_rows;
  t.tile_columns = static_cast<int>(tile_columns);
  t.tiles_down = static_cast<int>(divide_up(g.output_height, tile_rows));
  t.tiles_across = static_cast<int>(divide_up(g.output_width, tile_columns));
  t.first_row = g.first_row;
  t.panel_rows = tile_rows + span_y;

  std::int64_t covered = tile_columns;
  std::int64_t least_pitch = tile_columns;
  if (shifted) {
    t.groups = span_x + 1;
    covered = tile_columns + span_x;
    least_pitch = covered;
    if (whole_rows) {
      // Columns right of the image are zeros. They may be shared with those left of the next row.
      const std::int64_t image_end = divide_up(g.width, g.stride_x) - g.first_column;
      covered = std::max(tile_columns, std::min(covered, image_end));
      least_pitch = std::max(covered, tile_columns + g.last_column);
      // Where padding is not zero, its sums are shifted in, too; where rows share it, that of the
      // last row follows it.
      if (!target.padding_is_zero) covered = tile_columns + span_x;
    }
  } else {
    t.groups = 1;
  }
  t.covered = static_cast<int>(covered);
  std::int64_t pitch = round_up(least_pitch, lanes);
  if (tile_rows > 1) {
    while (pitch / 2 >= least_pitch && pitch / 2 >= 4) pitch /= 2;
  }
  const std::int64_t vectors = divide_up((tile_rows - 1) * pitch + covered, lanes);
  const int most = kept.block_rows == 1 ? target.most_vectors : target.most_block_vectors;
  if (vectors > most) return std::nullopt;
  t.pitch = static_cast<int>(pitch);
  t.vectors = static_cast<int>(vectors);

  std::int64_t floats = 0;
  const std::int64_t copy_floats =
      round_up(std::max(t.panel_rows * pitch, span_y * pitch + vectors * lanes), lanes);
  for (const Geometry::Place& place : g.taps) {
    const std::int64_t offset = (place.row - g.first_row) * pitch;
    const int first_column = shifted ? g.first_column : place.column;
    const int moved = static_cast<int>(offset % lanes);
    auto copy = std::find_if(t.copies.begin(), t.copies.end(), [&](const Tiling::Copy& c) {
      return c.phase_y == place.phase_y && c.phase_x == place.phase_x &&
             c.first_column == first_column && c.moved == moved;
    });
    if (copy == t.copies.end()) {
      if (floats > kMostPanelFloats) return std::nullopt;
      // What is moved to the left of the start needs room there.
      if (moved > 0) floats += lanes;
      t.copies.push_back({place.phase_y, place.phase_x, first_column, moved,
                          static_cast<int>(floats)});
      floats += copy_floats;
      copy = t.copies.end() - 1;
    }
    const std::int64_t tap = copy->start + offset - moved;
    if (tap >= kMostPanelFloats) return std::nullopt;
    t.taps.push_back({static_cast<int>(tap), shifted ? place.column - g.first_column : 0});
  }
  if (floats >= kMostPanelFloats) return std::nullopt;
  t.zeros = t.groups > 1 && target.group_entries > 1 &&
                    t.vectors * kept.block_rows <= kMostSumsForZeros
                ? t.vectors * lanes
                : 0;
  t.channel_stride = static_cast<int>(floats);

  const std::int64_t fit =
      std::min(static_cast<std::int64_t>(caches * static_cast<double>(cache_bytes())) / kFloatBytes,
               kMostPanelFloats - 1) /
      floats;
  const std::int64_t panels = divide_up(shape.input_channels, std::max<std::int64_t>(fit, 1));
  t.channels = static_cast<int>(divide_up(shape.input_channels, panels));

  const double entries = static_cast<double>(kept.entries.size());
  // A row reads the channels of its group only.
  const std::int64_t panels_of_row = divide_up(panels, shape.groups);
  const double lists = static_cast<double>(kept.blocks * panels_of_row);
  // Not every row has an entry in every panel.
  const double touched = lists * (1 - std::exp(-entries / lists));
  const double sums = static_cast<double>(vectors * kept.block_rows);
  double row = (kept.block_rows == 1 ? costs.row : costs.block_row) +
               (t.groups - 1) * (costs.group + costs.shift * sums);
  if (panels_of_row > 1) row += costs.partial_sum * sums;
  // Entries read any place of the panel; of the cache, a sixth is taken by what else passes through.
  const double misses =
      std::max(0.0, 1 - 5.0 / 6.0 * static_cast<double>(cache_bytes()) /
                            static_cast<double>(t.channels * floats * kFloatBytes));
  const double lines = t.vectors * lanes / static_cast<double>(kMostLanes);
  const double packed =
      costs.packed_channel + costs.packed_vector * static_cast<double>(floats / lanes);
  const double tile =
      entries * (costs.entry(t.vectors, kept.block_rows) + costs.miss * misses * lines) +
      touched * row +
      static_cast<double>(kept.blocks) *
          (costs.result * sums + costs.result_row * kept.block_rows) +
      static_cast<double>(shape.input_channels) * packed;
  t.cost = tile * t.tiles_down * t.tiles_across;
  return t;
}

// The cheapest by estimate.
std::optional<Tiling> choose_tiling(const Geometry& g, const KeptWeights& kept,
                                    const ConvShape& shape, const Target& target) {
  std::optional<Tiling> best;
  const int span_x = g.last_column - g.first_column;
  const auto consider = [&](int rows, std::int64_t columns, bool shifted) {
    if (columns < 1 || columns > g.output_width) return;
    for (const double caches : kCaches) {
      std::optional<Tiling> t = tiling_of(g, kept, shape, target, rows, columns, shifted, caches);
      if (t && (!best || t->cost < best->cost)) best = std::move(t);
    }
  };
  for (const bool shifted : {false, true}) {
    if (shifted && (span_x == 0 || span_x >= target.lanes)) continue;
    // Whole rows, as many in each tile as possible.
    std::int64_t last = 0;
    for (std::int64_t tiles = g.output_height; tiles >= 1; --tiles) {
      const std::int64_t rows = divide_up(g.output_height, tiles);
      if (rows == last) continue;
      last = rows;
      if (rows > target.most_vectors * target.lanes) break;
      consider(static_cast<int>(rows), g.output_width, shifted);
    }
    // Parts of rows, as alike as whole vectors allow.
    for (int vectors = 1; vectors <= target.most_vectors; ++vectors) {
      const std::int64_t room = vectors * target.lanes - (shifted ? span_x : 0);
      if (room < 1) continue;
      const std::int64_t parts = divide_up(g.output_width, room);
      const std::int64_t even = divide_up(divide_up(g.output_width, parts), target.lanes);
      consider(1, std::min(room, even * target.lanes), shifted);
    }
  }
  return best;
}

}  // namespace

Tile tile_of(const Tiling& t, const ConvShape& shape, int lanes, int index) {
  Tile tile;
  const std::int64_t y = static_cast<std::int64_t>(index / t.tiles_across) * t.tile_rows;
  const std::int64_t x = static_cast<std::int64_t>(index % t.tiles_across) * t.tile_columns;
  tile.rows = static_cast<int>(std::min<std::int64_t>(t.tile_rows, t.output_height - y));
  tile.columns = static_cast<int>(std::min<std::int64_t>(t.tile_columns, t.output_width - x));
  const int covered = t.covered - (t.tile_columns - tile.columns);
  tile.vectors = ((tile.rows - 1) * t.pitch + covered + lanes - 1) / lanes;
  tile.first = y * t.output_width + x;

  const std::int64_t stride_y = shape.stride_height;
  const std::int64_t stride_x = shape.stride_width;
  std::size_t copy_index = 0;
  for (const Tiling::Copy& copy : t.copies) {
    const std::int64_t next =
        ++copy_index < t.copies.size() ? t.copies[copy_index].start : t.channel_stride;
    for (int r = 0; r < t.panel_rows; ++r) {
      const std::int64_t image_y = (y + t.first_row + r) * stride_y + copy.phase_y;
      // Columns [begin, end) of the panel's row lie in the image.
      const std::int64_t first_x = (x + copy.first_column) * stride_x + copy.phase_x;
      std::int64_t begin = first_x >= 0 ? 0 : (-first_x + stride_x - 1) / stride_x;
      std::int64_t end = t.width - 1 < first_x ? 0 : (t.width - 1 - first_x) / stride_x + 1;
      begin = std::min<std::int64_t>(begin, t.pitch);
      end = std::clamp<std::int64_t>(end, begin, t.pitch);
      if (image_y < 0 || image_y >= t.height) begin = end = t.pitch;
      PackRow row;
      row.destination = copy.start + r * t.pitch - copy.moved;
      row.zeros_before = static_cast<std::int32_t>(begin);
      row.count = static_cast<std::int32_t>(end - begin);
      row.zeros_after = static_cast<std::int32_t>(t.pitch - end);
      row.source = row.count == 0 ? 0 : image_y * t.width + first_x + begin * stride_x;
      // What vectors may read behind the last row.
      if (r + 1 == t.panel_rows) {
        row.zeros_after += static_cast<std::int32_t>(
            std::max<std::int64_t>(0, next - (row.destination + t.pitch)));
      }
      tile.pack_rows.push_back(row);
    }
  }

  for (int r = 0; r < tile.rows; ++r) {
    for (int c = 0; c < tile.columns; c += lanes) {
      tile.segments.push_back({r * t.pitch + c,
                               static_cast<std::int32_t>(r * t.output_width + c),
                               std::min(lanes, tile.columns - c)});
    }
  }
  tile.segments_are_vectors =
      tile.segments.size() == static_cast<std::size_t>(tile.vectors) && t.pitch % lanes == 0;
  return tile;
}

KeptWeights::KeptWeights(const ConvShape& shape, const float* dense) {
  const std::int64_t per_row = shape.weights_per_row();
  const std::int64_t taps = shape.kernel_height * shape.kernel_width;
  block_rows = 1;
  if (shape.output_channels_per_group() % kBlockRows == 0) {
    std::size_t nonzeros = 0;
    std::size_t in_blocks = 0;
    for (std::int64_t row = 0; row < shape.output_channels; row += kBlockRows) {
      for (std::int64_t i = 0; i < per_row; ++i) {
        int kept = 0;
        for (int r = 0; r < kBlockRows; ++r) kept += dense[(row + r) * per_row + i] != 0.0f;
        nonzeros += kept;
        if (kept > 0) in_blocks += kBlockRows;
      }
    }
    if (static_cast<double>(nonzeros) > static_cast<double>(in_blocks) * (1 - kZerosInBlocks)) {
      block_rows = kBlockRows;
    }
  }
  blocks = shape.output_channels / block_rows;
  begins.reserve(static_cast<std::size_t>(blocks) + 1);
  for (std::int64_t block = 0; block < blocks; ++block) {
    begins.push_back(entries.size());
    const float* rows = dense + block * block_rows * per_row;
    const std::int64_t group = block * block_rows / shape.output_channels_per_group();
    for (std::int64_t i = 0; i < per_row; ++i) {
      bool kept = false;
      for (int r = 0; r < block_rows; ++r) kept |= rows[r * per_row + i] != 0.0f;
      if (!kept) continue;
      entries.push_back(
          {static_cast<std::int32_t>(group * shape.input_channels_per_group() + i / taps),
           static_cast<std::int32_t>(i % taps)});
      for (int r = 0; r < block_rows; ++r) weights.push_back(rows[r * per_row + i]);
    }
  }
  begins.push_back(entries.size());
}

std::unique_ptr<const Plan> make_plan(const ConvShape& shape, const KeptWeights& kept,
                                      const Target& target, std::int64_t height,
                                      std::int64_t width) {
  if (shape.kernel_height * shape.kernel_width > kMostTaps) return nullptr;
  constexpr std::int64_t kMostSize = std::numeric_limits<std::int32_t>::max() / 4;
  if (shape.output_height(height) * shape.output_width(width) > kMostSize ||
      (height + shape.pad_top + shape.pad_bottom) * (width + shape.pad_left + shape.pad_right) >
          kMostSize) {
    return nullptr;
  }
  const Geometry geometry = geometry_of(shape, height, width);
  std::optional<Tiling> tiling = choose_tiling(geometry, kept, shape, target);
  if (!tiling) return nullptr;

  auto plan = std::make_unique<Plan>();
  const Tiling& t = plan->tiling = std::move(*tiling);
  plan->panels = static_cast<int>(divide_up(shape.input_channels, t.channels));
  plan->row_parts = t.tiles_down * t.tiles_across < kFewTiles
                        ? static_cast<int>(std::min<std::int64_t>(4, kept.blocks))
                        : 1;
  if (kept.blocks / target.most_part_blocks >= plan->row_parts) {
    plan->row_parts = static_cast<int>(divide_up(kept.blocks, target.most_part_blocks));
  }
  plan->weights.reserve(kept.weights.size());
  plan->offsets.reserve(kept.entries.size());

  // Parts of rows with as many entries each.
  std::vector<std::int64_t>& part_begins = plan->part_begins;
  part_begins.push_back(0);
  for (std::int64_t block = 0; block < kept.blocks; ++block) {
    const std::size_t done = kept.begins[block] + static_cast<std::size_t>(block);
    const std::size_t all = kept.entries.size() + static_cast<std::size_t>(kept.blocks);
    while (static_cast<int>(part_begins.size()) < plan->row_parts &&
           done * plan->row_parts >= all * part_begins.size()) {
      part_begins.push_back(block);
    }
  }
  while (static_cast<int>(part_begins.size()) <= plan->row_parts) {
    part_begins.push_back(kept.blocks);
  }

  // The entries of a block are ordered by channel: a cursor for each block walks over the panels.
  std::vector<std::size_t> cursors(kept.begins.begin(), kept.begins.end() - 1);
  struct Line {
    std::int64_t block;
    std::size_t begin, end;
    std::vector<std::uint32_t> counts;  // of entries, the last group first
  };
  std::vector<Line> lines;
  struct Begin {
    std::size_t block, entry;
  };
  std::vector<Begin> begins;
  for (int panel = 0; panel < plan->panels; ++panel) {
    const std::int32_t first_channel = panel * t.channels;
    const std::int32_t end_channel = first_channel + t.channels;
    for (int p = 0; p < plan->row_parts; ++p) {
      lines.clear();
      for (std::int64_t block = part_begins[p]; block < part_begins[p + 1]; ++block) {
        const std::size_t begin = cursors[block];
        std::size_t end = begin;
        while (end < kept.begins[block + 1] && kept.entries[end].channel < end_channel) ++end;
        cursors[block] = end;
        // A block without any entries still gives its bias; it stands in the first panel.
        const bool empty = kept.begins[block] == kept.begins[block + 1];
        if (begin == end && !(empty && panel == 0)) continue;
        Line& line = lines.emplace_back(Line{block, begin, end, {}});
        line.counts.resize(static_cast<std::size_t>(t.groups));
        for (std::size_t i = begin; i < end; ++i) {
          const int group = t.taps[kept.entries[i].tap].group;
          ++line.counts[static_cast<std::size_t>(t.groups - 1 - group)];
        }
        if (t.zeros > 0) {
          for (std::uint32_t& count : line.counts) {
            count = static_cast<std::uint32_t>(round_up(count, target.group_entries));
          }
        }
      }
      std::stable_sort(lines.begin(), lines.end(),
                       [](const Line& a, const Line& b) { return a.counts < b.counts; });
      begins.push_back({plan->blocks.size(), plan->offsets.size()});
      for (const Line& line : lines) {
        std::uint32_t flags = static_cast<std::uint32_t>(line.block) << 2;
        if (line.begin == kept.begins[line.block]) flags |= kFirst;
        if (line.end == kept.begins[line.block + 1]) flags |= kLast;
        plan->blocks.push_back(flags);
        for (int group = t.groups - 1; group >= 0; --group) {
          std::uint32_t left = line.counts[static_cast<std::size_t>(t.groups - 1 - group)];
          plan->counts.push_back(left);
          for (std::size_t i = line.begin; i < line.end; ++i) {
            const Tiling::Tap& tap = t.taps[kept.entries[i].tap];
            if (tap.group != group) continue;
            --left;
            plan->offsets.push_back(static_cast<std::uint16_t>(
                (kept.entries[i].channel - first_channel) * t.channel_stride + tap.offset));
            for (int r = 0; r < kept.block_rows; ++r) {
              plan->weights.push_back(kept.weights[i * kept.block_rows + r]);
            }
          }
          for (; left > 0; --left) {
            plan->offsets.push_back(static_cast<std::uint16_t>(t.zeros_offset()));
            for (int r = 0; r < kept.block_rows; ++r) plan->weights.push_back(0.0f);
          }
        }
      }
    }
  }
  for (std::size_t i = 0; i < begins.size(); ++i) {
    const std::size_t block = begins[i].block;
    const std::size_t end = i + 1 < begins.size() ? begins[i + 1].block : plan->blocks.size();
    plan->parts.emplace_back(RowList{
        plan->blocks.data() + block, plan->counts.data() + block * static_cast<std::size_t>(t.groups),
        plan->weights.data() + begins[i].entry * static_cast<std::size_t>(kept.block_rows),
        plan->offsets.data() + begins[i].entry, end - block});
  }
  return plan;
}

}  // namespace taco4j::f32_spconv
