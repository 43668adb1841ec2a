//! The contract of `pelton_broker::io::Io` and `engine::port`: each case runs on every backend.

mod disk_cases;
mod file_cases;
#[cfg(feature = "glommio")]
mod glommio_stage;
mod link_cases;
mod net_cases;
mod rig;
mod send_file_cases;
mod sim_stage;
mod time_cases;
mod uring_stage;

use engine::pool::{Pool, RecvRegion};

/// Few and small receive buffers, so that they run out.
fn pool() -> Pool {
    Pool::new(RecvRegion { count: 8, bytes: 4096 }, 8 * 1024 * 1024)
}

/// Worlds that each case meets in the simulator.
const SEEDS: u64 = 30;

macro_rules! contract {
    ($($cases:ident :: $name:ident,)*) => {
        mod sim {
            $(
                #[test]
                fn $name() {
                    for seed in 0..super::SEEDS {
                        super::$cases::$name(&mut super::sim_stage::rig(super::pool(), seed));
                    }
                }
            )*
        }

        mod uring {
            $(
                #[test]
                fn $name() {
                    super::$cases::$name(&mut super::uring_stage::rig(super::pool()));
                }
            )*
        }

        mod uring_other_ways {
            $(
                #[test]
                fn $name() {
                    super::$cases::$name(&mut super::uring_stage::rig_of_other_ways(super::pool()));
                }
            )*
        }

        #[cfg(feature = "glommio")]
        mod glommio {
            $(
                #[test]
                fn $name() {
                    super::$cases::$name(&mut super::glommio_stage::rig(super::pool()));
                }
            )*
        }
    };
}

/// Cases about several shards of one process.
macro_rules! link_contract {
    ($($name:ident,)*) => {
        mod sim_links {
            $(
                #[test]
                fn $name() {
                    for seed in 0..super::SEEDS {
                        let pools = (0..super::link_cases::SHARDS).map(|_| super::pool());
                        let rigs = super::sim_stage::linked(pools.collect(), seed);
                        super::link_cases::$name(&mut super::link_cases::Shards::meet(rigs));
                    }
                }
            )*
        }

        mod uring_links {
            $(
                #[test]
                fn $name() {
                    let pools = (0..super::link_cases::SHARDS).map(|_| super::pool());
                    let rigs = super::uring_stage::linked(pools.collect());
                    super::link_cases::$name(&mut super::link_cases::Shards::meet(rigs));
                }
            )*
        }
    };
}

/// Cases about sends out of files, which glommio does not have.
macro_rules! send_file_contract {
    ($($name:ident,)*) => {
        mod sim_send_file {
            $(
                #[test]
                fn $name() {
                    for seed in 0..super::SEEDS {
                        let mut rig = super::sim_stage::rig(super::pool(), seed);
                        super::send_file_cases::$name(&mut rig);
                    }
                }
            )*
        }

        mod uring_send_file {
            $(
                #[test]
                fn $name() {
                    super::send_file_cases::$name(&mut super::uring_stage::rig(super::pool()));
                }
            )*
        }
    };
}

send_file_contract! {
    ranges_of_a_file_arrive_in_order,
    memory_and_files_take_turns,
    a_file_waits_for_a_peer_that_does_not_read,
    a_stuck_peer_does_not_hold_up_another,
    close_ends_a_send_out_of_a_file,
    a_file_that_ends_too_early_is_told,
    a_number_works_again_after_it_sent_a_file,
}

link_contract! {
    every_shard_has_two_links_to_every_other,
    bytes_arrive_whole_and_in_order,
    a_send_of_sixteen_slices_arrives_in_order,
    a_send_ends_only_when_it_was_taken,
    a_cancelled_receive_gives_its_buffer_back_and_loses_nothing,
    a_receive_fills_its_place_and_no_other,
    both_directions_of_both_links_work_at_once,
    a_sleeper_is_woken,
    a_connection_and_a_link_do_not_mix,
}

contract! {
    net_cases::connections_get_numbers_of_their_own,
    net_cases::recv_brings_all_bytes_in_order_and_then_the_end,
    net_cases::recv_without_buffers_ends_and_can_be_armed_again,
    net_cases::a_cancelled_recv_stops_and_loses_nothing,
    net_cases::recv_into_fills_its_place_and_no_other,
    net_cases::a_cancelled_recv_into_gives_its_buffer_back,
    net_cases::a_vectored_send_arrives_in_order,
    net_cases::a_send_waits_for_a_peer_that_does_not_read,
    net_cases::close_ends_what_is_open_and_comes_last,
    net_cases::close_with_an_open_recv_into_gives_the_buffer_back,
    net_cases::a_number_works_again_after_closed,
    net_cases::after_the_peers_end_a_send_still_arrives,
    net_cases::a_reset_fails_the_recv,
    file_cases::a_write_reads_back,
    file_cases::writes_in_flight_together_all_happen,
    file_cases::a_read_ends_at_the_end_of_the_file,
    file_cases::files_are_created_found_and_emptied,
    file_cases::a_spare_is_adopted,
    file_cases::extending_gives_zeros_and_length,
    file_cases::deleting_takes_what_is_there,
    file_cases::what_is_not_aligned_is_refused,
    file_cases::an_op_on_a_closed_number_panics,
    file_cases::a_number_leads_to_its_newest_file,
    time_cases::a_wait_ends_at_its_deadline,
    time_cases::an_eager_wait_does_not_block,
    time_cases::dones_are_appended,
}
