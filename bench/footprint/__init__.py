"""What a device costs: memory, CPU, flash, and bytes on its link, measured on the real agent, worker and hub."""
