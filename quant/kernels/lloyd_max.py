"""The optimal partition of sorted values into cells, by dynamic programming."""

import numpy as np

from quant.kernels.jit import jit


@jit(error_model="numpy")
def best_partition(mass, first, second, k, choice):
    """Return the ends (k,) int64 of the k non-empty cells with the smallest squared error.

    Cell m contains the values ends[m - 1]..ends[m] - 1, and ends[k - 1] is n. If c(j) is the
    smallest error of the first j values in one cell fewer, the last cell of the first j values
    begins at the i that minimizes c(i) + error(i..j). This i does not decrease with j, so it is
    searched only between those of the neighbours on a grid of twice the step.

    mass, first, second (n + 1,) float64: sums of w, w x and w x² over the values before each index;
    choice (k, n + 1) uint16 is overwritten; 1 <= k <= n <= 65,536.
    """
    n = len(mass) - 1
    cost = np.zeros(n + 1)
    base = np.zeros(n + 1)
    for j in range(1, n + 1):
        cost[j] = second[j] - first[j] * first[j] / mass[j]
    for m in range(1, k):
        # the part of the cost that depends only on the first index i of the last cell
        for i in range(m, n):
            base[i] = cost[i] - second[i]
        begins = choice[m]
        lowest = n if m == k - 1 else m + 1  # the last row is needed for n only
        step = 1
        while step <= n - lowest:
            step *= 2
        while step > 0:
            for j in range(lowest + step - 1, n + 1, 2 * step):
                left = np.int64(begins[j - step]) if j - step >= lowest else m
                right = np.int64(begins[j + step]) if j + step <= n else j - 1
                least = np.inf
                best = left
                right = max(left, min(right, j - 1))  # rounding may put neighbours out of order
                for i in range(left, right + 1):
                    between = first[j] - first[i]
                    c = base[i] - between * between / (mass[j] - mass[i])
                    if c < least:
                        least = c
                        best = i
                begins[j] = best
                cost[j] = second[j] + least
            step //= 2
    ends = np.empty(k, np.int64)
    end = n
    for m in range(k - 1, -1, -1):
        ends[m] = end
        if m > 0:
            end = np.int64(choice[m, end])
    return ends
