// Plots as inline SVG: drawn here in full, without scripts, in the colours of the page's classes
// (`series-0` … `series-7`, beyond them with `dash-1` and `dash-2`; `axis`, `grid`).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace quern {

struct PlotPoint {
  double x = 0, y = 0;
  double error = 0;        // of y; NaN or 0: none is drawn
  std::string label = {};  // beside the point; may be empty
};

struct PlotSeries {
  std::string name = {};
  std::vector<PlotPoint> points = {};
  bool joined = true;  // by lines; else a mark at each
};

struct Plot {
  std::string title = {}, x_title = {}, y_title = {};
  bool log_x = false, log_y = false;  // points that are not positive are then left out, and named
  bool whole_x = false;               // x counts something: no ticks between whole numbers
  std::vector<PlotSeries> series = {};
};

// Returns the plot with axes, ticks and, of several series, a legend; points that are no finite
// numbers are left out. Where none is left, a sentence says so.
std::string SvgOf(const Plot& plot);

// A horizontal bar with its error.
struct Bar {
  std::string name;
  double value = 0;  // not negative
  double error = 0;
};

// Returns bars under each other, the names to their left and the values to their right.
std::string SvgOfBars(const std::string& title, const std::vector<Bar>& bars);

}  // namespace quern
