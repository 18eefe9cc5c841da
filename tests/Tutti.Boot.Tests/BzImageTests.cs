using System.Buffers.Binary;
using System.Text;
using Tutti.Cpu;
using static Tutti.Boot.Tests.TestMemory;

namespace Tutti.Boot.Tests;

public class BzImageTests
{
    private const ulong BootParams = 0x7000;

    [Fact]
    public void The_payload_goes_to_its_preferred_address_and_the_entry_is_0x200_behind()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        ProcessorRegisters registers = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel });
        Assert.Equal(KernelFiles.PreferredAddress + 0x200, registers.Rip);
        Assert.Equal(kernel[((KernelFiles.SetupSectors + 1) * 512)..], memory.Bytes(KernelFiles.PreferredAddress, KernelFiles.PayloadSize));
    }

    [Fact]
    public void The_processor_is_in_64_bit_mode_with_flat_segments_and_interrupts_off()
    {
        using TestMemory memory = new(64);
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage() });
        Assert.Equal(0x8000_0001UL, r.Cr0 & 0x8000_0001);
        Assert.Equal(0x20UL, r.Cr4);
        Assert.Equal(0x500UL, r.Efer);
        Assert.Equal(2UL, r.Rflags);
        Assert.Equal(BootParams, r.Gpr[6]);
        Assert.Equal((0x10, 0xA09B), (r.Segments[1].Selector, r.Segments[1].Attributes));
        Assert.All([0, 2, 3], i => Assert.Equal((0x18, 0xC093), (r.Segments[i].Selector, r.Segments[i].Attributes)));
        Assert.Equal(0x8B, r.Tr.Attributes);
        Assert.Equal(0x1F80U, BinaryPrimitives.ReadUInt32LittleEndian(r.FxState.AsSpan(24)));

        // The descriptors in memory say the same as the hidden parts: a reload must change nothing.
        Assert.Equal(0x00AF_9B00_0000_FFFFUL, memory.U64(r.GdtBase + 0x10));
        Assert.Equal(0x00CF_9300_0000_FFFFUL, memory.U64(r.GdtBase + 0x18));
        Assert.True(r.GdtLimit >= 0x1F);
    }

    [Fact]
    public void A_kernel_without_a_64_bit_entry_starts_at_its_32_bit_one_in_flat_protected_mode()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        kernel[0x236] = 0;
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel });
        Assert.Equal(KernelFiles.PreferredAddress, r.Rip);
        Assert.Equal(0x11UL, r.Cr0);
        Assert.Equal(0UL, r.Cr4 | r.Efer | r.Cr3);
        Assert.Equal(2UL, r.Rflags);
        Assert.Equal([0, 0, 0, 0, 0, 0, BootParams, 0], r.Gpr[..8]);
        Assert.Equal((0x10, 0xC09B), (r.Segments[1].Selector, r.Segments[1].Attributes));
        Assert.All([0, 2, 3], i => Assert.Equal((0x18, 0xC093), (r.Segments[i].Selector, r.Segments[i].Attributes)));
        Assert.Equal(0x00CF_9B00_0000_FFFFUL, memory.U64(r.GdtBase + 0x10));
        Assert.Equal((uint)KernelFiles.PreferredAddress, memory.U32(BootParams + 0x214));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0x7000)]
    [InlineData(0x100_0200)]
    [InlineData(0x3FFF_FFFF)]
    [InlineData(0xC000_1234)]
    [InlineData(0xFEE0_0000)]
    [InlineData(0xFFFF_FFFF)]
    public void The_first_4_GiB_are_mapped_one_to_one(ulong address)
    {
        using TestMemory memory = new(64);
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage() });
        ulong table = r.Cr3;
        foreach (int shift in (int[])[39, 30])
        {
            ulong entry = memory.U64(table + ((address >> shift & 511) * 8));
            Assert.Equal(3UL, entry & 0x83);
            table = entry & 0xF_FFFF_FFFF_F000;
        }

        ulong page = memory.U64(table + ((address >> 21 & 511) * 8));
        Assert.Equal(0x83UL, page & 0xFFF);
        Assert.Equal(address & ~0x1F_FFFFUL, page & 0xF_FFFF_FFE0_0000);
    }

    [Fact]
    public void The_setup_header_is_copied_and_the_rest_of_boot_params_is_zero_but_for_what_we_set()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, CommandLine = "console=ttyS0 x=ä" });
        Assert.Equal(0x5372_6448U, memory.U32(BootParams + 0x202));
        Assert.Equal(0x20F, memory.U16(BootParams + 0x206));
        Assert.Equal(KernelFiles.InitSize, memory.U32(BootParams + 0x260));
        Assert.Equal(0, memory.U8(BootParams + 0x1EF));
        Assert.Equal(0xFF, memory.U8(BootParams + 0x210));
        Assert.Equal(0UL, memory.U64(BootParams + 0x250));
        Assert.Equal(0UL, memory.U64(BootParams));
        Assert.Equal(0UL, memory.U64(BootParams + 0xFF8));
        Assert.Equal(0xE_0000UL, memory.U64(BootParams + 0x70));

        uint commandLine = memory.U32(BootParams + 0x228);
        byte[] expected = [.. Encoding.UTF8.GetBytes("console=ttyS0 x=ä"), 0];
        Assert.Equal(expected, memory.Bytes(commandLine, expected.Length));
    }

    [Theory]
    [InlineData(64, 0)]
    [InlineData(128, 64)]
    public void The_memory_map_is_sorted_without_overlap_and_holds_all_memory_above_1_MiB(ulong low, ulong high)
    {
        using TestMemory memory = new(low, high);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage() });
        int count = memory.U8(BootParams + 0x1E8);
        ulong last = 0;
        ulong usable = 0;
        for (int i = 0; i < count; i++)
        {
            ulong at = BootParams + 0x2D0 + ((ulong)i * 20);
            ulong start = memory.U64(at);
            Assert.True(start >= last);
            last = start + memory.U64(at + 8);
            uint kind = memory.U32(at + 16);
            Assert.InRange(kind, 1U, 2U);
            usable += kind == 1 && start >= MiB ? memory.U64(at + 8) : 0;
            Assert.False(kind == 1 && start < 0x10_0000 && last > 0xA_0000, "the ISA hole is no memory");
        }

        Assert.Equal(((low + high) * MiB) - MiB, usable);
    }

    [Fact]
    public void The_initrd_lies_page_aligned_as_high_as_memory_goes()
    {
        using TestMemory memory = new(64, 64);
        byte[] initrd = Numbered(5000);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage(), Initrd = initrd });
        uint address = memory.U32(BootParams + 0x218);
        Assert.Equal((64 * MiB) - 8192, address);
        Assert.Equal(5000U, memory.U32(BootParams + 0x21C));
        Assert.Equal(0U, memory.U32(BootParams + 0xC0));
        Assert.Equal(initrd, memory.Bytes(address, initrd.Length));
    }

    [Fact]
    public void The_initrd_stays_below_initrd_addr_max()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x22C), 0x1FF_FFFF);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, Initrd = Numbered(4096) });
        Assert.Equal(0x1FF_F000U, memory.U32(BootParams + 0x218));
    }

    [Fact]
    public void An_initrd_that_fits_only_below_the_kernel_goes_there()
    {
        using TestMemory memory = new(24);
        byte[] initrd = Numbered(1 << 20);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage(), Initrd = initrd });
        Assert.Equal(15 * MiB, memory.U32(BootParams + 0x218));
        Assert.Equal(initrd, memory.Bytes(15 * MiB, initrd.Length));
    }

    [Fact]
    public void An_initrd_too_large_for_low_memory_goes_above_4_GiB_when_the_kernel_takes_that()
    {
        using TestMemory memory = new(32, 32);
        byte[] initrd = Numbered(20 << 20);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage(), Initrd = initrd });
        Assert.Equal(1U, memory.U32(BootParams + 0xC0));
        Assert.Equal(12 * MiB, memory.U32(BootParams + 0x218));
        Assert.Equal(initrd[^16..], memory.Bytes(0x1_0000_0000 + (32 * MiB) - 16, 16));

        byte[] kernel = KernelFiles.BzImage();
        kernel[0x236] = 1; // only XLF_KERNEL_64
        Assert.Contains("does not fit", Refusal(memory, kernel, initrd), StringComparison.Ordinal);
    }

    [Fact]
    public void Without_an_initrd_its_fields_are_zero()
    {
        using TestMemory memory = new(64);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage() });
        Assert.Equal(0UL, memory.U64(BootParams + 0x218));
    }

    [Theory]
    [InlineData(1, 0, "--memory 64M")]
    [InlineData(23, 0, "--memory 24M")]
    [InlineData(24, 16 << 20, "--memory 40M")]
    public void Too_little_memory_is_refused_with_the_size_that_is_needed(ulong mib, int initrdSize, string remedy)
    {
        using TestMemory memory = new(mib);
        Assert.Contains(remedy, Refusal(memory, KernelFiles.BzImage(), new byte[initrdSize]), StringComparison.Ordinal);
    }

    [Fact]
    public void The_command_line_may_be_as_long_as_cmdline_size_and_no_longer()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, CommandLine = new string('a', 2047) });
        BootException error = Assert.Throws<BootException>(() =>
            LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, CommandLine = new string('a', 2048) }));
        Assert.Contains("2048 bytes long and this kernel takes at most 2047", error.Message, StringComparison.Ordinal);
        Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, CommandLine = "a\0b" }));
    }

    [Theory]
    [InlineData(0x206, 0x0B, "older than 2.12")]
    [InlineData(0x201, 0x10, "impossible length")]
    [InlineData(0x1F6, 0xFF, "truncated")]
    [InlineData(0x25B, 0xFF, "outside")]
    public void A_header_that_cannot_be_booted_is_refused(int offset, byte value, string message)
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        kernel[offset] = value;
        Assert.Contains(message, Refusal(memory, kernel, default), StringComparison.Ordinal);
    }

    [Fact]
    public void The_last_unit_of_16_bytes_need_not_be_full()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel[..^15] });
        Assert.Equal(kernel[^16], memory.U8(KernelFiles.PreferredAddress + KernelFiles.PayloadSize - 16));
        Assert.Equal(TestMemory.Pattern, memory.U8(KernelFiles.PreferredAddress + KernelFiles.PayloadSize - 15));
    }

    [Fact]
    public void Every_truncation_is_refused()
    {
        using TestMemory memory = new(64);
        byte[] kernel = KernelFiles.BzImage();
        for (int length = 0; length <= kernel.Length - 16; length += length < 0x300 ? 1 : 509)
        {
            Refusal(memory, kernel[..length], default);
        }
    }

    private static string Refusal(TestMemory memory, byte[] kernel, ReadOnlyMemory<byte> initrd) =>
        Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel, Initrd = initrd })).Message;

    private static byte[] Numbered(int length)
    {
        byte[] bytes = new byte[length];
        new Random(1).NextBytes(bytes);
        return bytes;
    }
}
