//! Agents that act, as their users meet them.

mod sub_agents;
