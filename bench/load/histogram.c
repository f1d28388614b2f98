/* A histogram whose buckets are under 1 % wide, as HdrHistogram's. */
#include "load.h"

static uint64_t histogram[8192], count;
static int64_t largest;

static size_t bucket(int64_t nanoseconds) {
    uint64_t value = nanoseconds < 0 ? 0 : (uint64_t)nanoseconds;
    if (value < 256) return value;
    int shift = 63 - __builtin_clzll(value) - 7;
    return 256 + (size_t)(shift - 1) * 128 + (value >> shift) - 128;
}

void note_latency(int64_t nanoseconds) {
    count++;
    histogram[bucket(nanoseconds)]++;
    if (nanoseconds > largest) largest = nanoseconds;
}

double largest_microseconds(void) { return (double)largest / 1e3; }

double microseconds_at(double quantile) {
    uint64_t rank = (uint64_t)(quantile * (double)count), seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) {
        seen += histogram[i];
        if (histogram[i] && seen > rank) {
            if (i < 256) return (double)i / 1e3;
            int shift = (int)((i - 256) / 128) + 1;
            return ((double)((i - 256) % 128 + 128) + 0.5) * (double)(UINT64_C(1) << shift) / 1e3;
        }
    }
    return largest_microseconds();
}
