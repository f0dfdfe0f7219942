//! Graph algorithms for dependencies: strongly connected components, orders, levels and cycles.
//!
//! Nodes are numbers and are visited in a fixed order, so that the same graph gives the same result
//! everywhere. No function recurses, because the graphs of real code are deep.

/// For each node, the nodes that it needs.
pub(super) type Needs = [Vec<usize>];

/// Returns the strongly connected components, each sorted. A component comes after the components
/// that it needs.
///
/// This is Tarjan's algorithm with an explicit stack.
pub(super) fn components(needs: &Needs) -> Vec<Vec<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut index = vec![UNSEEN; needs.len()];
    let mut low = vec![0; needs.len()];
    let mut on_stack = vec![false; needs.len()];
    let (mut stack, mut components, mut next) = (Vec::new(), Vec::new(), 0);
    for root in 0..needs.len() {
        if index[root] != UNSEEN {
            continue;
        }
        let mut path = vec![(root, 0_usize)];
        while let Some((node, edge)) = path.last_mut() {
            let node = *node;
            if *edge == 0 {
                index[node] = next;
                low[node] = next;
                next += 1;
                stack.push(node);
                on_stack[node] = true;
            }
            if let Some(&to) = needs[node].get(*edge) {
                *edge += 1;
                if index[to] == UNSEEN {
                    path.push((to, 0));
                } else if on_stack[to] {
                    low[node] = low[node].min(index[to]);
                }
                continue;
            }
            path.pop();
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                let at = stack.iter().rposition(|n| *n == node).unwrap_or(0);
                let mut component = stack.split_off(at);
                for member in &component {
                    on_stack[*member] = false;
                }
                component.sort_unstable();
                components.push(component);
            }
        }
    }
    components
}

/// Returns `nodes` in depth-first postorder: each node after the nodes that it needs, except within
/// a cycle. The search starts from the nodes in the given order and does not leave `nodes`.
pub(super) fn depth_first(needs: &Needs, nodes: &[usize]) -> Vec<usize> {
    let mut unvisited = vec![false; needs.len()];
    for node in nodes {
        unvisited[*node] = true;
    }
    let mut order = Vec::with_capacity(nodes.len());
    for root in nodes {
        if !std::mem::replace(&mut unvisited[*root], false) {
            continue;
        }
        let mut path = vec![(*root, 0_usize)];
        while let Some((node, edge)) = path.last_mut() {
            match needs[*node].get(*edge) {
                Some(&to) => {
                    *edge += 1;
                    if std::mem::replace(&mut unvisited[to], false) {
                        path.push((to, 0));
                    }
                }
                None => {
                    order.push(*node);
                    path.pop();
                }
            }
        }
    }
    order
}

/// Returns the level of each node: 0 for a node without needs, otherwise one more than the highest
/// level among the node's needs. The graph must have no cycle.
pub(super) fn levels(needs: &Needs) -> Vec<u32> {
    let all: Vec<_> = (0..needs.len()).collect();
    let mut levels = vec![0; needs.len()];
    for node in depth_first(needs, &all) {
        levels[node] = needs[node].iter().map(|to| levels[*to] + 1).max().unwrap_or(0);
    }
    levels
}

/// Returns a shortest cycle through the first node of a strongly connected component. The cycle
/// begins and ends with this node.
pub(super) fn cycle(needs: &Needs, component: &[usize]) -> Vec<usize> {
    let Some(&start) = component.first() else { return Vec::new() };
    let mut came_from: std::collections::BTreeMap<usize, usize> = Default::default();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let inside = |to: &&usize| **to != node && component.binary_search(to).is_ok();
        for &to in needs[node].iter().filter(inside) {
            if to == start {
                let mut path = vec![node];
                while let Some(before) = path.last().and_then(|last| came_from.get(last)) {
                    path.push(*before);
                }
                path.reverse();
                path.push(start);
                return path;
            }
            if let std::collections::btree_map::Entry::Vacant(unseen) = came_from.entry(to) {
                unseen.insert(node);
                queue.push_back(to);
            }
        }
    }
    vec![start]
}

/// Returns the graph of groups of nodes: the groups that each group needs. `home` holds the group
/// of each node, and `groups` is the number of groups.
pub(super) fn group_graph(needs: &Needs, home: &[usize], groups: usize) -> Vec<Vec<usize>> {
    let mut group_needs = vec![Vec::new(); groups];
    for (node, list) in needs.iter().enumerate() {
        group_needs[home[node]]
            .extend(list.iter().map(|to| home[*to]).filter(|to| *to != home[node]));
    }
    for list in &mut group_needs {
        list.sort_unstable();
        list.dedup();
    }
    group_needs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn components_cycles_and_levels_of_a_small_graph() {
        // 0 → 1 → 2 → 1, 3 → 0, 4 alone.
        let needs = [vec![1], vec![2], vec![1], vec![0], vec![]];
        assert_eq!(components(&needs), [vec![1, 2], vec![0], vec![3], vec![4]]);
        assert_eq!(cycle(&needs, &[1, 2]), [1, 2, 1]);
        assert_eq!(depth_first(&[vec![2], vec![], vec![1]], &[0, 1, 2]), [1, 2, 0]);
        assert_eq!(levels(&[vec![2], vec![], vec![1], vec![]]), [2, 0, 1, 0]);
    }

    #[test]
    fn chain_of_100_000_nodes_does_not_overflow_the_stack() {
        let needs: Vec<Vec<usize>> =
            (0..100_000).map(|n| if n + 1 < 100_000 { vec![n + 1] } else { vec![] }).collect();
        assert_eq!(components(&needs).len(), 100_000);
        assert_eq!(levels(&needs)[0], 99_999);
    }

    proptest! {
        /// Compares with the definition: two nodes are in one component if each can be reached from
        /// the other.
        #[test]
        fn components_are_nodes_that_reach_each_other(
            edges in prop::collection::vec((0_usize..9, 0_usize..9), 0..25),
        ) {
            let mut needs = vec![Vec::new(); 9];
            let mut reach = vec![vec![false; 9]; 9];
            for (a, b) in edges {
                needs[a].push(b);
                reach[a][b] = true;
            }
            for via in 0..9 {
                for a in 0..9 {
                    for b in 0..9 {
                        reach[a][b] |= reach[a][via] && reach[via][b];
                    }
                }
            }
            let groups = components(&needs);
            let mut home = [usize::MAX; 9];
            for (number, group) in groups.iter().enumerate() {
                for node in group {
                    home[*node] = number;
                }
            }
            for a in 0..9 {
                for b in (0..9).filter(|b| *b != a) {
                    prop_assert_eq!(home[a] == home[b], reach[a][b] && reach[b][a]);
                    // A component comes after the components that it needs.
                    prop_assert!(!(reach[a][b] && home[a] != home[b]) || home[b] < home[a]);
                }
            }
            for group in groups.iter().filter(|g| g.len() > 1) {
                let way = cycle(&needs, group);
                prop_assert!(way.len() > 2 && way.first() == way.last());
                prop_assert!(way.windows(2).all(|w| needs[w[0]].contains(&w[1])));
            }
        }
    }
}
