/* How long the steps of all ranks took: of each the slowest rank's time. */
#include "parts.h"

#include <algorithm>
#include <string.h>

namespace {

/* Adds to the entry of that name from `first` on, or makes one. */
void add_cost(const moe_cost &cost, size_t first, std::vector<moe_cost> *ret) {
    for (size_t i = first; i < ret->size(); i++)
        if (!strcmp((*ret)[i].name, cost.name)) {
            (*ret)[i].us += cost.us;
            return;
        }
    ret->push_back(cost);
}

/* A rank's steps and, where they are asked for, its copies, which take their time beside them. */
std::vector<moe_cost> costs_of(const RankPart *p, bool backward) {
    std::vector<moe_cost> all = (backward ? p->backward : p->forward).cost;
    const size_t first = all.size();
    for (const moe_cost &cost : p->links[backward].cost)
        if (cost.name[0])
            add_cost(cost, first, &all);
    return all;
}

} // namespace

void finish_timers(RanksLayer *l, bool backward) {
    for (int r = 0; r < l->dev->group->words.ranks; r++) {
        timer_finish(backward ? &l->part[r].backward : &l->part[r].forward);
        timer_finish(&l->part[r].links[backward]);
    }
}

size_t ranks_timings(const RanksLayer *l, moe_cost *ret, size_t capacity) {
    size_t count = 0;
    for (int backward = 0; backward < 2; backward++) {
        std::vector<moe_cost> slowest = costs_of(&l->part[0], backward);
        for (int r = 1; r < l->dev->group->words.ranks; r++) {
            const std::vector<moe_cost> one = costs_of(&l->part[r], backward);
            for (size_t i = 0; i < slowest.size() && i < one.size(); i++)
                slowest[i].us = std::max(slowest[i].us, one[i].us);
        }
        for (const moe_cost &cost : slowest) {
            if (count < capacity)
                ret[count] = cost;
            count++;
        }
    }
    return count;
}
