using System.Buffers.Binary;
using System.Text;

namespace Tutti.Guests.Tests;

public class ModuleArchiveTests
{
    [Fact]
    public void Modules_come_after_what_they_depend_on_and_others_stay_out()
    {
        Dictionary<string, KernelModule> available = Modules(
            ("virtio_pci", "virtio,virtio_ring,virtio_pci_modern_dev"), ("virtio_ring", "virtio"), ("virtio", ""), ("virtio_pci_modern_dev", ""),
            ("virtio_net", "virtio,net_failover"), ("net_failover", "failover"), ("failover", ""), ("xfs", ""));
        string[] order = [.. ModuleArchive.Order(available).Select(module => module.Name)];
        Assert.Equal(["virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci", "failover", "net_failover", "virtio_net"], order);
    }

    [Theory]
    [InlineData("virtio", "")]
    [InlineData("virtio_pci", "virtio_pci")]
    public void A_module_without_what_it_needs_is_an_error(string name, string depends)
    {
        Dictionary<string, KernelModule> available = Modules(("virtio_pci", name == "virtio" ? "virtio" : depends));
        Assert.Contains(name, Assert.Throws<ImageException>(() => ModuleArchive.Order(available)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_archive_names_dependencies_in_the_order_that_modprobe_undoes_and_aliases_of_devices()
    {
        using MemoryStream stream = new();
        ModuleArchive.Write(stream, "6.1.0", new Dictionary<string, byte[]>
        {
            ["virtio_pci"] = Elf("alias=pci:v00001AF4d*\0depends=virtio-ring,virtio\0name=virtio_pci\0"),
            ["virtio_ring"] = Elf("depends=virtio\0"),
            ["virtio"] = Elf("license=GPL\0depends=\0"),
        });
        string text = Encoding.Latin1.GetString(stream.ToArray());
        Assert.Contains("virtio_pci.ko: virtio_ring.ko virtio.ko\n", text, StringComparison.Ordinal);
        Assert.Contains("alias pci:v00001AF4d* virtio_pci\n", text, StringComparison.Ordinal);
        Assert.Contains("lib/modules/6.1.0/virtio.ko\0", text, StringComparison.Ordinal);
        Assert.Equal(0, stream.Length % 512);
    }

    [Fact]
    public void A_module_file_cut_anywhere_is_refused_or_read_and_nothing_else()
    {
        byte[] whole = Elf("depends=a,b-c\0alias=x\0");
        KernelModule module = KernelModule.Parse("kernel/drivers/some-thing.ko", whole);
        Assert.Equal("some_thing", module.Name);
        Assert.Equal(["a", "b_c"], module.Depends);
        Assert.Equal(["x"], module.Aliases);
        for (int length = 0; length < whole.Length - 128; length++)
        {
            Assert.Throws<ImageException>(() => KernelModule.Parse("x.ko", whole.AsSpan(0, length)));
        }

        Random random = new(5);
        for (int run = 0; run < 20000; run++)
        {
            byte[] broken = [.. whole];
            for (int i = 0; i < 3; i++)
            {
                broken[random.Next(broken.Length)] = (byte)random.Next(256);
            }

            try
            {
                KernelModule.Parse("x.ko", broken);
            }
            catch (ImageException)
            {
                // The answer to what cannot be read.
            }
        }
    }

    private static Dictionary<string, KernelModule> Modules(params (string Name, string Depends)[] modules) => modules.ToDictionary(
        module => module.Name, module => new KernelModule(module.Name, module.Depends.Split(',', StringSplitOptions.RemoveEmptyEntries), []));

    /// <summary>An object file of three sections: none, the names, and .modinfo.</summary>
    private static byte[] Elf(string info)
    {
        byte[] names = Encoding.ASCII.GetBytes("\0.shstrtab\0.modinfo\0");
        byte[] body = Encoding.ASCII.GetBytes(info);
        int table = 64 + names.Length + body.Length;
        byte[] file = new byte[table + (3 * 64)];
        "\u007FELF"u8.CopyTo(file);
        BinaryPrimitives.WriteInt64LittleEndian(file.AsSpan(40), table);
        BinaryPrimitives.WriteInt16LittleEndian(file.AsSpan(60), 3);
        BinaryPrimitives.WriteInt16LittleEndian(file.AsSpan(62), 1);
        names.CopyTo(file, 64);
        body.CopyTo(file, 64 + names.Length);
        Section(1, 1, 64, names.Length);
        Section(2, 11, 64 + names.Length, body.Length);
        return file;

        void Section(int index, int name, int offset, int length)
        {
            Span<byte> header = file.AsSpan(table + (index * 64), 64);
            BinaryPrimitives.WriteInt32LittleEndian(header, name);
            BinaryPrimitives.WriteInt64LittleEndian(header[24..], offset);
            BinaryPrimitives.WriteInt64LittleEndian(header[32..], length);
        }
    }
}
