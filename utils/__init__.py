"""The programs of this folder, and what they share. They need nothing but Python itself: they run before there is an
environment, and on whatever machine a grid chooses."""
