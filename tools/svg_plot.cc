#include "tools/svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "tools/markup.h"

namespace quern {
namespace {

// Units of all of these: pixels of the view box.
constexpr double kWidth = 760, kHeight = 320;
constexpr double kLeft = 84, kRight = 24, kTop = 34, kBottom = 52;
constexpr double kLineHeight = 18;
constexpr double kLetter = 7;  // a generous width of one
constexpr size_t kSeriesColors = 8;
constexpr size_t kMaxLabel = 40;  // letters

// One axis: numbers to pixels.
class Axis {
 public:
  Axis(bool logarithmic, double from_px, double to_px)
      : logarithmic_(logarithmic), from_px_(from_px), to_px_(to_px) {}

  bool Takes(double value) const { return std::isfinite(value) && (!logarithmic_ || value > 0); }
  void Include(double value) {
    if (!Takes(value)) return;
    low_ = std::min(low_, Scaled(value));
    high_ = std::max(high_, Scaled(value));
  }
  bool empty() const { return !(low_ <= high_); }
  void Finish() {
    const double margin =
        high_ > low_ ? 0.04 * (high_ - low_) : std::max(std::abs(low_), 1.0) * 0.1;
    low_ -= margin;
    high_ += margin;
  }
  double Px(double value) const {
    const double part = (Scaled(value) - low_) / (high_ - low_);
    return from_px_ + std::clamp(part, 0.0, 1.0) * (to_px_ - from_px_);
  }

  struct Tick {
    double px;
    std::string text;
  };
  // With `whole`, at whole numbers only.
  std::vector<Tick> Ticks(bool whole) const {
    std::vector<Tick> ticks;
    if (logarithmic_ && high_ - low_ > 1.2) {  // whole powers of ten, at most eight of them
      const double step = std::ceil((high_ - low_) / 8);
      for (double power = std::floor(low_ / step) * step; power <= high_; power += step) {
        for (const int factor : {1, 2, 5}) {  // and between them where they are few
          if (factor > 1 && high_ - low_ > 3) break;
          const double scaled = power + std::log10(factor);
          if (scaled < low_ || scaled > high_) continue;
          ticks.push_back(
              {Px(std::pow(10, scaled)), fmt::format("{}e{:.0f}", factor, power + 0.0)});
        }
      }
      return ticks;
    }
    const double low = logarithmic_ ? std::pow(10, low_) : low_;
    const double high = logarithmic_ ? std::pow(10, high_) : high_;
    const double nice = NiceStep((high - low) / 5);
    const double step = whole ? std::max(1.0, nice) : nice;
    if (!(step > 0)) return ticks;
    for (double i = std::ceil(low / step); i <= std::floor(high / step); ++i) {
      const double value = i * step + 0.0;  // Makes 0 of -0.
      ticks.push_back({Px(value), fmt::format("{:.6g}", value)});
    }
    return ticks;
  }

 private:
  double Scaled(double value) const { return logarithmic_ ? std::log10(value) : value; }
  // Returns 1, 2 or 5 times a power of ten, at least `rough`.
  static double NiceStep(double rough) {
    if (!(rough > 0) || !std::isfinite(rough)) return 0;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor * power >= rough) return factor * power;
    }
    return 10 * power;
  }

  bool logarithmic_;
  double from_px_, to_px_;
  double low_ = std::numeric_limits<double>::infinity();
  double high_ = -std::numeric_limits<double>::infinity();
};

std::string Shortened(const std::string& text, size_t n) {
  // Names of files differ at their end.
  if (text.size() <= n) return text;
  size_t begin = text.size() - n;
  while (begin < text.size() && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) ++begin;
  return "…" + text.substr(begin);
}

std::string Text(double x, double y, std::string_view anchor, std::string_view css,
                 const std::string& text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>\n",
                     x, y, anchor, css, XmlEscaped(text));
}

std::string Line(double x1, double y1, double x2, double y2, std::string_view css) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, css);
}

std::string Begin(const std::string& title, double height) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n{}",
                     kWidth, height, XmlEscaped(title),
                     Text(kWidth / 2, 20, "middle", "title", title));
}

std::string AxesOf(const Plot& plot, const Axis& x, const Axis& y) {
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  std::string out;
  for (const Axis::Tick& tick : x.Ticks(plot.whole_x)) {
    out += Line(tick.px, kTop, tick.px, bottom, "grid");
    out += Text(tick.px, bottom + 16, "middle", "tick", tick.text);
  }
  for (const Axis::Tick& tick : y.Ticks(false)) {
    out += Line(kLeft, tick.px, right, tick.px, "grid");
    out += Text(kLeft - 6, tick.px + 4, "end", "tick", tick.text);
  }
  out += Line(kLeft, bottom, right, bottom, "axis") + Line(kLeft, kTop, kLeft, bottom, "axis");
  out += Text((kLeft + right) / 2, kHeight - 14, "middle", "axis-title", plot.x_title);
  const double middle = (kTop + bottom) / 2;
  out += fmt::format(
      "<text x=\"14\" y=\"{0:.1f}\" text-anchor=\"middle\" class=\"axis-title\" "
      "transform=\"rotate(-90 14 {0:.1f})\">{1}</text>\n",
      middle, XmlEscaped(plot.y_title));
  return out;
}

// The classes of a series' colour and, where colours come again, of its dashes.
std::string SeriesClass(size_t i) {
  constexpr size_t kDashes = 3;
  const size_t dash = i / kSeriesColors % kDashes;
  return fmt::format("series-{}{}", i % kSeriesColors,
                     dash == 0 ? "" : fmt::format(" dash-{}", dash));
}

// Where labels are, and marks, so that no two cover each other.
class LabelPlaces {
 public:
  void Occupy(double left, double top, double right, double bottom) {
    taken_.push_back({left, top, right, bottom});
  }

  // Draws `label` near a mark, as near as there is room, with a line to it where it is far.
  std::string Place(double px, double py, const std::string& label) {
    constexpr double kHigh = 14, kGap = 8;
    const double width = static_cast<double>(std::min(label.size(), kMaxLabel + 3)) * kLetter;
    // On the side where there is room.
    const bool on_the_left = px > kWidth / 2;
    const double left = on_the_left ? px - kGap - width : px + kGap;
    for (int step = 0; step < 40; ++step) {  // above, below, farther above, …
      const double shift = (step % 2 == 0 ? -1 : 1) * (kHigh / 2) * static_cast<double>(step);
      const double base = py - 6 + shift;
      if (base - 11 < kTop || base + 3 > kHeight - kBottom) continue;
      const Box box = {left, base - 11, left + width, base + 3};
      if (std::ranges::any_of(taken_, [&](const Box& other) { return Overlap(box, other); })) {
        continue;
      }
      taken_.push_back(box);
      std::string out;
      if (step > 3) out = Line(px, py, on_the_left ? px - kGap : px + kGap, base - 4, "axis");
      return out + Text(on_the_left ? px - kGap : px + kGap, base, on_the_left ? "end" : "start",
                        "label", label);
    }
    return "";  // The table has it.
  }

 private:
  struct Box {
    double left, top, right, bottom;
  };
  static bool Overlap(const Box& a, const Box& b) {
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  }
  std::vector<Box> taken_;
};

// Points within the plot, in its pixels.
std::string SeriesSvg(const PlotSeries& series, size_t index, const Axis& x, const Axis& y) {
  const std::string css = SeriesClass(index);
  LabelPlaces places;
  for (const PlotPoint& point : series.points) {
    if (series.joined || !x.Takes(point.x) || !y.Takes(point.y)) continue;
    const double px = x.Px(point.x), py = y.Px(point.y);
    places.Occupy(px - 5, py - 5, px + 5, py + 5);
  }
  std::string line, marks;
  for (const PlotPoint& point : series.points) {
    if (!x.Takes(point.x) || !y.Takes(point.y)) continue;
    const double px = x.Px(point.x), py = y.Px(point.y);
    line += fmt::format("{:.1f},{:.1f} ", px, py);
    if (series.joined) continue;
    if (point.error > 0 && std::isfinite(point.error)) {
      const double low = y.Takes(point.y - point.error) ? y.Px(point.y - point.error) : py;
      marks += Line(px, low, px, y.Px(point.y + point.error), "error " + css);
    }
    marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"mark {}\"/>\n", px,
                         py, css);
    if (point.label.empty()) continue;
    marks += places.Place(px, py, Shortened(point.label, kMaxLabel));
  }
  if (!series.joined || line.empty()) return marks;
  return fmt::format("<polyline points=\"{}\" class=\"line {}\"/>\n", line, css);
}

// What a logarithmic axis has no place for: names of points, or of series without any other.
std::string LeftOut(const Plot& plot, const Axis& x, const Axis& y) {
  std::string names;
  const auto add = [&](const std::string& name) {
    if (!name.empty()) names += (names.empty() ? "" : ", ") + Shortened(name, kMaxLabel);
  };
  for (const PlotSeries& series : plot.series) {
    bool any = false;
    for (const PlotPoint& point : series.points) {
      const bool drawn = x.Takes(point.x) && y.Takes(point.y);
      any |= drawn;
      if (!drawn && !series.joined) add(point.label);
    }
    if (!any && series.joined) add(series.name);
  }
  constexpr size_t kMaxNames = 80;  // letters
  return names.empty() ? "" : "not drawn, being 0: " + Shortened(names, kMaxNames);
}

}  // namespace

std::string SvgOf(const Plot& plot) {
  Axis x(plot.log_x, kLeft, kWidth - kRight), y(plot.log_y, kHeight - kBottom, kTop);
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      if (!x.Takes(point.x) || !y.Takes(point.y)) continue;
      x.Include(point.x);
      y.Include(point.y);
      if (series.joined || !std::isfinite(point.error)) continue;
      y.Include(point.y + point.error);
      y.Include(point.y - point.error);
    }
  }
  const bool legend = plot.series.size() > 1 && plot.series[0].joined;
  const std::string left_out = plot.log_x || plot.log_y ? LeftOut(plot, x, y) : "";
  const double legend_height = legend ? kLineHeight * double(plot.series.size()) + 8 : 0;
  const double height = kHeight + legend_height + (left_out.empty() ? 0 : kLineHeight);
  std::string out = Begin(plot.title, height);
  if (x.empty() || y.empty()) {
    return out + Text(kWidth / 2, kHeight / 2, "middle", "label", "nothing to draw") +
           (left_out.empty() ? "" : Text(kLeft, height - 8, "start", "tick", left_out)) +
           "</svg>\n";
  }
  x.Finish();
  y.Finish();
  out += AxesOf(plot, x, y);
  for (size_t i = 0; i < plot.series.size(); ++i) {
    out += SeriesSvg(plot.series[i], i, x, y);
    if (!legend) continue;
    const double at = kHeight + kLineHeight * (static_cast<double>(i) + 0.5);
    out += Line(kLeft, at, kLeft + 24, at, "line " + SeriesClass(i));
    out += Text(kLeft + 32, at + 4, "start", "label", Shortened(plot.series[i].name, 80));
  }
  if (!left_out.empty()) out += Text(kLeft, height - 8, "start", "tick", left_out);
  return out + "</svg>\n";
}

std::string SvgOfBars(const std::string& title, const std::vector<Bar>& bars) {
  constexpr double kBarLeft = kMaxLabel * kLetter, kBarRight = kWidth - 100;
  const double height = kTop + kLineHeight * static_cast<double>(bars.size()) + 12;
  double most = 0;
  for (const Bar& bar : bars) {
    if (std::isfinite(bar.value)) most = std::max(most, bar.value);
    if (std::isfinite(bar.value + bar.error)) most = std::max(most, bar.value + bar.error);
  }
  const auto width = [&](double value) {
    return most > 0 && std::isfinite(value) ? std::max(0.0, value / most) * (kBarRight - kBarLeft)
                                            : 0;
  };
  std::string out = Begin(title, height);
  for (size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double top = kTop + kLineHeight * static_cast<double>(i);
    const double middle = top + kLineHeight / 2;
    out += Text(kBarLeft - 6, middle + 4, "end", "label", Shortened(bar.name, kMaxLabel - 4));
    out += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"bar "
        "series-0\"/>\n",
        kBarLeft, top + 3, width(bar.value), kLineHeight - 6);
    if (std::isfinite(bar.error) && bar.error > 0) {
      out += Line(kBarLeft + width(bar.value - bar.error), middle,
                  kBarLeft + width(bar.value + bar.error), middle, "axis");
    }
    out += Text(kWidth - 8, middle + 4, "end", "tick", fmt::format("{:.6f}", bar.value));
  }
  return out + "</svg>\n";
}

}  // namespace quern
