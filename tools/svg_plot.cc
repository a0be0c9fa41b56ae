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
  std::vector<Tick> Ticks() const {
    std::vector<Tick> ticks;
    if (logarithmic_ && high_ - low_ > 1.2) {  // whole powers of ten, at most eight of them
      const double step = std::ceil((high_ - low_) / 8);
      for (double power = std::ceil(low_ / step) * step; power <= high_; power += step) {
        ticks.push_back({Px(std::pow(10, power)), fmt::format("1e{:.0f}", power + 0.0)});
      }
      return ticks;
    }
    const double low = logarithmic_ ? std::pow(10, low_) : low_;
    const double high = logarithmic_ ? std::pow(10, high_) : high_;
    const double step = NiceStep((high - low) / 5);
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
  for (const Axis::Tick& tick : x.Ticks()) {
    out += Line(tick.px, kTop, tick.px, bottom, "grid");
    out += Text(tick.px, bottom + 16, "middle", "tick", tick.text);
  }
  for (const Axis::Tick& tick : y.Ticks()) {
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

// Points within the plot, in its pixels.
std::string SeriesSvg(const PlotSeries& series, size_t color, const Axis& x, const Axis& y) {
  std::string line, marks;
  for (const PlotPoint& point : series.points) {
    if (!x.Takes(point.x) || !y.Takes(point.y)) continue;
    const double px = x.Px(point.x), py = y.Px(point.y);
    line += fmt::format("{:.1f},{:.1f} ", px, py);
    if (series.joined) continue;
    if (point.error > 0 && std::isfinite(point.error)) {
      const double low = y.Takes(point.y - point.error) ? y.Px(point.y - point.error) : py;
      marks +=
          Line(px, low, px, y.Px(point.y + point.error), fmt::format("error series-{}", color));
    }
    marks += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" class=\"mark series-{}\"/>\n",
                         px, py, color);
    if (point.label.empty()) continue;
    const std::string label = Shortened(point.label, kMaxLabel);
    // On the side where there is room.
    const bool on_the_left = px > kWidth / 2;
    marks +=
        Text(px + (on_the_left ? -8 : 8), py - 6, on_the_left ? "end" : "start", "label", label);
  }
  if (!series.joined) return marks;
  return fmt::format("<polyline points=\"{}\" class=\"line series-{}\"/>\n", line, color);
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
  const double height = kHeight + (legend ? kLineHeight * double(plot.series.size()) + 8 : 0);
  std::string out = Begin(plot.title, height);
  if (x.empty() || y.empty()) {
    return out + Text(kWidth / 2, kHeight / 2, "middle", "label", "nothing to draw") + "</svg>\n";
  }
  x.Finish();
  y.Finish();
  out += AxesOf(plot, x, y);
  for (size_t i = 0; i < plot.series.size(); ++i) {
    const size_t color = i % kSeriesColors;
    out += SeriesSvg(plot.series[i], color, x, y);
    if (!legend) continue;
    const double at = kHeight + kLineHeight * (static_cast<double>(i) + 0.5);
    out += Line(kLeft, at, kLeft + 24, at, fmt::format("line series-{}", color));
    out += Text(kLeft + 32, at + 4, "start", "label", Shortened(plot.series[i].name, 80));
  }
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
