using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using Tutti.Boot.Acpi;

namespace Tutti.Boot.Tests;

public class AcpiTablesTests
{
    private const ulong Address = 0xE_0000;

    private static readonly AcpiHardware WithPci = new()
    {
        Pci = new AcpiPciBus
        {
            EcamAddress = 0xE000_0000,
            PortWindows = [new(0, 0xCF8), new(0xD00, 0xF300)],
            MemoryWindows = [new(0xC000_0000, 0x2000_0000), new(0x2_0000_0000, 0x8_0000_0000)],
            GlobalInterrupt = (slot, pin) => 16 + ((slot + pin) % 8),
            LegacyInterrupt = (slot, pin) => 10 + ((slot + pin) % 2),
        },
    };

    [Theory]
    [InlineData(1)]
    [InlineData(255)]
    [InlineData(1024)]
    public void Every_table_is_reached_from_the_rsdp_and_sums_to_zero(int processors)
    {
        Dictionary<string, byte[]> tables = Read(new AcpiHardware(), processors);
        Assert.Equal(["APIC", "DSDT", "FACP", "FACS", "XSDT"], tables.Keys.Order());
        Assert.All(tables.Where(t => t.Key != "FACS"), t => Assert.Equal(0, t.Value.Sum(b => b) & 0xFF));
    }

    [Fact]
    public void The_tables_of_the_most_processors_fit_below_1_MiB() =>
        Assert.InRange(AcpiTables.Build(WithPci, 1024, Address).Length, 1, BootLayout.AcpiTablesLimit);

    [Fact]
    public void The_fadt_names_each_port_block_twice_alike()
    {
        AcpiHardware hardware = new() { Pm1EventPort = 0x1000, Pm1ControlPort = 0x1104, PmTimerPort = 0x1208, Gpe0Port = 0x1320, SciInterrupt = 11, ResetPort = 0x64, ResetValue = 0xFE };
        byte[] fadt = Read(hardware, 1)["FACP"];
        Assert.Equal(276, fadt.Length);
        Assert.Equal(11, U16(fadt, 46));
        (int Old, int Length, int New, uint Port)[] blocks = [(56, 88, 148, 0x1000), (64, 89, 172, 0x1104), (76, 91, 208, 0x1208), (80, 92, 220, 0x1320)];
        Assert.All(blocks, block =>
        {
            Assert.Equal(block.Port, U32(fadt, block.Old));
            Assert.Equal(1, fadt[block.New]);
            Assert.Equal(fadt[block.Length] * 8, fadt[block.New + 1]);
            Assert.Equal(block.Port, U64(fadt, block.New + 4));
        });
        Assert.Equal(1U << 10, U32(fadt, 112) & (1 << 10));
        Assert.Equal(0U, U32(fadt, 112) & (1 << 4));
        Assert.Equal((0x64UL, 0xFE), (U64(fadt, 120), fadt[128]));
    }

    [Fact]
    public void The_madt_has_an_entry_for_each_processor_and_wide_ones_from_255_on()
    {
        byte[] madt = Read(new AcpiHardware { IoApicId = 7 }, 300)["APIC"];
        Assert.Equal(0xFEE0_0000, U32(madt, 36));
        List<uint> processors = [];
        List<byte> kinds = [];
        for (int at = 44; at < madt.Length; at += madt[at + 1])
        {
            kinds.Add(madt[at]);
            Assert.InRange(madt[at + 1], 6, 16);
            switch (madt[at])
            {
                case 0:
                    Assert.Equal(1U, U32(madt, at + 4));
                    processors.Add(madt[at + 3]);
                    break;
                case 9:
                    processors.Add(U32(madt, at + 4));
                    Assert.Equal(U32(madt, at + 4), U32(madt, at + 12));
                    break;
                case 1:
                    Assert.Equal((7, 0xFEC0_0000U, 0U), (madt[at + 2], U32(madt, at + 4), U32(madt, at + 8)));
                    break;
            }
        }

        Assert.Equal(Enumerable.Range(0, 300).Select(i => (uint)i), processors);
        Assert.Equal(45, kinds.Count(k => k == 9));
        Assert.Equal(2, kinds.Count(k => k == 2));
        Assert.Contains((byte)4, kinds);
    }

    [Fact]
    public void The_loader_puts_the_rsdp_where_a_search_finds_it()
    {
        using TestMemory memory = new(64);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.BzImage() });
        byte[] area = memory.Bytes(0xE_0000, 0x2_0000);
        int found = Enumerable.Range(0, area.Length / 16).Select(i => i * 16).First(i => area.AsSpan(i, 8).SequenceEqual("RSD PTR "u8));
        Assert.Equal(0, area.AsSpan(found, 20).ToArray().Sum(b => b) & 0xFF);
    }

    [Theory]
    [InlineData("PNP0501", 0x41D0_0501)]
    [InlineData("PNP0B00", 0x41D0_0B00)]
    [InlineData("ABC0123", 0x0443_0123)]
    public void Eisa_identifiers_are_packed_in_five_bits_a_letter(string id, uint expected) =>
        Assert.Equal(expected, AmlWriter.CompressEisaId(id));

    [Theory]
    [InlineData(0, "06-41")]
    [InlineData(57, "3F-41")]
    [InlineData(58, "41-04-41")]
    [InlineData(4088, "4F-FF-41")]
    [InlineData(4089, "81-00-01-41")]
    public void Package_lengths_take_as_few_bytes_as_they_can(int padding, string expected)
    {
        AmlWriter aml = new();

        // The body is the name's 4 bytes, the padding and a last byte.
        aml.Scope("ABCD", body =>
        {
            for (int i = 0; i < padding; i++)
            {
                body.Raw(0);
            }

            body.Raw(1);
        });
        byte[] bytes = aml.ToArray();
        Assert.Equal(expected, BitConverter.ToString(bytes, 1, expected.Split('-').Length));
    }

    [Fact]
    public void The_mcfg_names_the_configuration_space_of_bus_0_which_the_memory_map_reserves()
    {
        byte[] mcfg = Read(WithPci, 1)["MCFG"];
        Assert.Equal(60, mcfg.Length);
        Assert.Equal((0xE000_0000UL, 0U), (U64(mcfg, 44), U32(mcfg, 52)));
        using TestMemory memory = new(64, 64);
        IReadOnlyList<MemoryMapEntry> map = MemoryMap.Build(memory.Guest, WithPci.Pci);
        Assert.Contains(new MemoryMapEntry(0xE000_0000, 0x10_0000, MemoryMapKind.Reserved), map);
        Assert.All(map.Zip(map.Skip(1)), pair => Assert.True(pair.First.Start + pair.First.Size <= pair.Second.Start));
    }

    [IaslFact]
    public void The_host_bridge_says_its_windows_and_the_interrupt_of_every_slot()
    {
        string folder = Directory.CreateTempSubdirectory("tutti-acpi").FullName;
        try
        {
            File.WriteAllBytes(Path.Combine(folder, "DSDT.aml"), Read(WithPci, 1)["DSDT"]);
            _ = Run(folder, "-d", "DSDT.aml");
            string dsdt = File.ReadAllText(Path.Combine(folder, "DSDT.dsl"));
            foreach (string expected in (string[])
                [
                    "Device (PCI0)", "PNP0A08", "PNP0A03", "WordBusNumber (ResourceProducer", "WordIO (ResourceProducer",
                    "DWordMemory (ResourceProducer", "QWordMemory (ResourceProducer", "0xDFFFFFFF", "0x00000009FFFFFFFF",
                    "Method (_OSC, 4", "33db4d5b-1ff7-401c-9657-7441c03dd766", "Method (_PRT, 0", "Method (_PIC, 1", "PNP0C02", "0xE0000000",
                ])
            {
                Assert.Contains(expected, dsdt, StringComparison.OrdinalIgnoreCase);
            }

            // Those of both routing tables, and _S5.
            Assert.Equal((2 * 128) + 1, dsdt.Split("Package (0x04)").Length - 1);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    [IaslFact]
    public void The_reference_compiler_reads_every_table_without_a_complaint_and_finds_our_devices()
    {
        string folder = Directory.CreateTempSubdirectory("tutti-acpi").FullName;
        try
        {
            Dictionary<string, byte[]> tables = Read(WithPci, 300);
            foreach ((string name, byte[] table) in tables)
            {
                File.WriteAllBytes(Path.Combine(folder, $"{name}.aml"), table);
                string output = Run(folder, "-d", $"{name}.aml");
                Assert.DoesNotContain("Error", output, StringComparison.Ordinal);
                Assert.DoesNotContain("Warning", output, StringComparison.Ordinal);
            }

            string dsdt = File.ReadAllText(Path.Combine(folder, "DSDT.dsl"));
            foreach (string expected in (string[])["_S5", "PNP0501", "0x03F8", "{4}", "PNP0B00", "PNP0303", "Device (C12B)"])
            {
                Assert.Contains(expected, dsdt, StringComparison.Ordinal);
            }

            // What it has disassembled it must be able to compile again, to the same bytes.
            string compiled = Run(folder, "-oa", "-p", "again", "DSDT.dsl");
            Assert.Contains(" 0 Errors, 0 Warnings", compiled, StringComparison.Ordinal);
            Assert.Equal(tables["DSDT"][36..], File.ReadAllBytes(Path.Combine(folder, "again.aml"))[36..]);
            Assert.Contains("FADT", File.ReadAllText(Path.Combine(folder, "FACP.dsl")), StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain("Invalid", File.ReadAllText(Path.Combine(folder, "APIC.dsl")), StringComparison.OrdinalIgnoreCase);
        }
        finally
        {
            Directory.Delete(folder, true);
        }
    }

    private static string Run(string folder, params string[] arguments)
    {
        ProcessStartInfo start = new(IaslFactAttribute.Iasl!, arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd() + errors.Result;
        Assert.True(process.WaitForExit(30_000));
        return output;
    }

    /// <summary>Follows the pointers as an operating system does, reading nothing of the builder's.</summary>
    private static Dictionary<string, byte[]> Read(AcpiHardware hardware, int processors)
    {
        byte[] block = AcpiTables.Build(hardware, processors, Address);
        Assert.Equal("RSD PTR ", Encoding.ASCII.GetString(block, 0, 8));
        Assert.Equal(0, block.Take(20).Sum(b => b) & 0xFF);
        Assert.Equal(0, block.Take(36).Sum(b => b) & 0xFF);
        Assert.Equal(2, block[15]);
        Dictionary<string, byte[]> tables = [];
        byte[] xsdt = Add(U64(block, 24));
        for (int at = 36; at < xsdt.Length; at += 8)
        {
            byte[] table = Add(U64(xsdt, at));
            if (Encoding.ASCII.GetString(table, 0, 4) == "FACP")
            {
                Add(U32(table, 36));
                Add(U32(table, 40));
                Assert.Equal(U32(table, 40), U64(table, 140));
                Assert.Equal(0U, U32(table, 36) % 64);
            }
        }

        return tables;

        byte[] Add(ulong address)
        {
            int offset = (int)(address - Address);
            byte[] table = block[offset..(offset + (int)U32(block, offset + 4))];
            tables.Add(Encoding.ASCII.GetString(table, 0, 4), table);
            return table;
        }
    }

    private static ushort U16(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(offset));

    private static uint U32(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(offset));

    private static ulong U64(byte[] bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(offset));
}
